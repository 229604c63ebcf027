"""The style sheet: for screens, light and dark, wide and narrow, and for paper."""

STYLE = """
:root {
  --ground: #ffffff; --sheet: #f5f6f8; --ink: #16191d; --soft: #4a525c; --line: #c9ced6; --link: #0b4f9e;
  --good: #0b5a2b; --good-ground: #e6f4ea; --open: #7a3a00; --open-ground: #fff1dc; --bad: #8f1414;
  --bad-ground: #fde8e8; --mark: #6b2fa0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --sheet: #1d2127; --ink: #edf0f3; --soft: #b4bcc7; --line: #434b56; --link: #8fc1ff;
    --good: #8ee0a8; --good-ground: #12301d; --open: #ffc27a; --open-ground: #38250b; --bad: #ffaaa5;
    --bad-ground: #3d1616; --mark: #d5b0ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif;
}
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1.1rem; font-weight: 600; margin: 0; }
h2 { font-size: 1.45rem; margin: 3rem 0 .5rem; padding-top: .9rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.5rem 0 .35rem; }
p { margin: .5rem 0; max-width: 46rem; }
ul { margin: .5rem 0; padding-left: 1.25rem; }
li { margin: .35rem 0; }
a { color: var(--link); }
a:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
code, pre, .hex { font-family: ui-monospace, "SFMono-Regular", Menlo, "DejaVu Sans Mono", monospace; font-size: .86em; }
pre code { font-size: 1em; }
.hex, td, li, p { overflow-wrap: anywhere; }
pre {
  background: var(--sheet); border: 1px solid var(--line); border-radius: 6px; padding: .75rem .9rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.45;
}
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; display: inline-block; margin-bottom: .75rem; }
.top { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; justify-content: space-between; margin-bottom: 1rem; }
.top p { margin: 0; color: var(--soft); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
nav li { margin: 0; }
.verdict { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin: 1rem 0; }
.verdict > div { border: 2px solid; border-radius: 10px; padding: 1rem 1.2rem 1.1rem; }
.verdict h2 { border: 0; margin: 0; padding: 0; font-size: 1.7rem; }
.verdict p { font-size: 1.05rem; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start; }
.two > div { border: 1px solid var(--line); border-left: 6px solid; border-radius: 6px; padding: .25rem 1.1rem .7rem; }
.two h3 { margin-top: .7rem; }
.good { border-color: var(--good) !important; background: var(--good-ground); }
.open { border-color: var(--open) !important; background: var(--open-ground); }
.bad { border-color: var(--bad) !important; background: var(--bad-ground); }
.good h2, .good h3 { color: var(--good); } .open h2, .open h3 { color: var(--open); }
.bad h2, .bad h3 { color: var(--bad); }
.state { font-weight: 700; white-space: nowrap; }
.state.checked { color: var(--good); } .state.claimed { color: var(--open); } .state.missing { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.sum > * { font-weight: 700; border-top: 2px solid var(--ink); }
figure { margin: 1rem 0; }
figcaption { color: var(--soft); max-width: 46rem; }
svg { display: block; width: 100%; height: auto; min-width: 47rem; max-width: 54rem; }
svg text { font-size: 13px; fill: var(--ink); font-family: inherit; }
svg .axis, svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); }
svg .draw-good { fill: var(--good); } svg .draw-bad { fill: var(--bad); }
svg line.tau { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 6 4; }
svg line.score { stroke: var(--mark); stroke-width: 3; }
svg text.score { fill: var(--mark); font-weight: 700; }
svg text.label { unicode-bidi: isolate; }
footer { margin-top: 3rem; border-top: 2px solid var(--line); color: var(--soft); }
@media (max-width: 46rem) { .verdict, .two { grid-template-columns: 1fr; } }
@media screen and (max-width: 46rem) { .wide table { min-width: 42rem; } }
@media print {
  :root {
    --ground: #fff; --sheet: #fff; --ink: #000; --soft: #333; --line: #999; --link: #000; --good: #0b4a24;
    --good-ground: #fff; --open: #6b3300; --open-ground: #fff; --bad: #7d0f0f; --bad-ground: #fff; --mark: #4b1d78;
  }
  @page { size: A4; margin: 16mm 15mm; }
  body { font-size: 9.5pt; max-width: none; padding: 0; }
  nav, .skip { display: none; }
  h2 { margin-top: 1.6rem; }
  h2, h3, caption { break-after: avoid; }
  .verdict, .two > div, tr, li, figure, pre { break-inside: avoid; }
  .wide { overflow: visible; }
  svg { min-width: 0; }
}
"""
