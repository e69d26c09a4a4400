"""How the page looks: light or dark as the reader's system is, and readable on a phone."""

CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d636b; --line: #dcdfe3; --card: #f6f7f8; --page: #fff;
  --link: #1f5fa8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --soft: #a0a7b0; --line: #34383e; --card: #1e2125;
  --page: #141618; --link: #82b4ee } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1160px; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--page);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem }
p { max-width: 76ch; margin: .4rem 0 .8rem }
a { color: var(--link) }
small, .soft, figcaption, caption, dt { color: var(--soft) }
small, figcaption { font-size: .84rem }
nav a { display: inline-block; margin-right: 1.1rem }
code, pre { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace }
pre { background: var(--card); padding: .7rem .9rem; border-radius: 6px; white-space: pre-wrap; margin: .5rem 0 }
.key { display: inline-block; min-width: 1.5em; padding: 0 .35em; border-radius: 4px; color: #fff; text-align: center;
  font-size: .84rem; font-weight: 700; line-height: 1.5; margin-right: .4em; text-shadow: 0 0 2px #0008 }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; margin: .6rem 0; padding: 0; list-style: none }
.warn { border-left: 3px solid #dd7a14; padding: .1rem 0 .1rem .8rem }
.scroll { overflow-x: auto; margin: .6rem 0 1.1rem }
.scroll:focus-visible { outline: 2px solid var(--link) }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; overflow-wrap: normal }
caption { text-align: left; font-size: .84rem; padding-bottom: .35rem }
th, td { padding: .4rem 1.1rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
thead th { font-size: .84rem; white-space: nowrap; vertical-align: bottom; border-bottom-color: var(--soft) }
tbody th { font-weight: 500; min-width: 6.5em }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--page) }
details tbody th, details thead th:first-child { background: inherit; position: static }
.named { display: inline-flex; align-items: baseline; max-width: 100% }
.named .key { flex: none }
.named .key + span { overflow-wrap: anywhere }
td data { white-space: nowrap }
td small { display: block; max-width: 26em }
td .none + small { min-width: 10em }
td data ~ small, td strong ~ small { min-width: 11em }
.narrow td { min-width: 7em; max-width: 22em; overflow-wrap: anywhere }

strong { font-weight: 700 }
.none { color: var(--soft) }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap: 1rem 1.4rem }
figure { margin: 0; min-width: 0 }
figcaption { margin-top: .3rem }
h4 { font-size: 1rem; margin: 1rem 0 .4rem }
.plots figcaption { color: var(--ink); font-weight: 500 }
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt }
.dots svg { max-width: 560px }
img { display: block; height: auto; max-width: 100%; border-radius: 3px; background: #fff }
.grids { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 255px), 1fr)); gap: 1.2rem }
.grids img { width: 100%; max-width: 512px }
.crisp { image-rendering: pixelated }
.strip { display: flex; gap: .6rem; margin: 0; padding: 0; list-style: none }
.strip li { flex: 0 0 168px }
.strip img { width: 168px }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .1rem .9rem }
summary { cursor: pointer; padding: .4rem 0; font-weight: 500 }
details details { border: 0; padding: 0 }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); gap: .55rem 1.4rem;
  margin: .6rem 0 1rem }
dl div { min-width: 0 }
dt { font-size: .84rem }
dd { margin: 0 }
@media (max-width: 600px) { body { padding: 1.2rem 1rem 3rem } h1 { font-size: 1.4rem }
  .grids { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .9rem } }
@media print { .scroll { overflow: visible } details > * { display: block } }
"""
