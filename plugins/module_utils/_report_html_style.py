# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The style of the HTML reports: light, dark, narrow and on paper. Nothing in it comes from a record."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#16202c;--soft:#4d5a69;--rule:#d9dee5;--code:#eef1f5;--link:#0b57b0;
--pass:#0f6a3c;--pass-bg:#e0f4e8;--fail:#a5161d;--fail-bg:#fde8e8;--warn:#7a4a00;--warn-bg:#fdf0d3;--none:#4d5a69;--none-bg:#e9edf2;--info:#0b4f9e;--info-bg:#e3eefb;
--s1:#1f6fc5;--s2:#9a5b00;--s3:#8436b0;--s4:#c2262e;--span:#1f6fc51a;--grid:#d9dee5;--shade:0 1px 2px #16202c14,0 0 0 1px #16202c0d}
@media(prefers-color-scheme:dark){:root{--page:#0f141a;--card:#182029;--ink:#e7ecf2;--soft:#a9b5c3;--rule:#2f3a46;--code:#222c37;--link:#7db8f7;
--pass:#7fdba6;--pass-bg:#173524;--fail:#ff9d9d;--fail-bg:#421d22;--warn:#f3c46b;--warn-bg:#3a2d14;--none:#b3bfcc;--none-bg:#2a3542;--info:#93c4ff;--info-bg:#1a314d;
--s1:#64a9f2;--s2:#f0b355;--s3:#cf95f0;--s4:#ff8585;--span:#64a9f224;--grid:#2f3a46;--shade:0 0 0 1px #ffffff12}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;max-width:74rem;padding:1.5rem;background:var(--page);color:var(--ink);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.3;margin:.5rem 0 1rem;font-weight:650;letter-spacing:-.01em;text-wrap:pretty}
h1.long{font-size:1.2rem;line-height:1.45}
h2{font-size:1.2rem;margin:0 0 .75rem;font-weight:650}
h3{font-size:1rem;margin:1.25rem 0 .5rem;font-weight:650}
p{margin:.5rem 0}
a{color:var(--link)}
header.status,section{background:var(--card);border-radius:.75rem;box-shadow:var(--shade);padding:1.25rem 1.5rem;margin:0 0 1rem}
header.status{border-top:.375rem solid var(--none)}
header.pass{border-top-color:var(--pass)}header.fail{border-top-color:var(--fail)}header.warn{border-top-color:var(--warn)}header.info{border-top-color:var(--info)}
section.next{border-left:.375rem solid var(--warn)}
.outcome{margin:0}.outcome .badge{font-size:1rem;padding:.2rem .8rem}
.step{font-size:1.1rem;font-weight:600}
.about{color:var(--soft)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.9em}
code{unicode-bidi:isolate}
pre{background:var(--code);border-radius:.5rem;padding:.75rem 1rem;margin:.5rem 0;overflow-x:auto;white-space:pre-wrap;max-height:30rem;overflow-y:auto}
pre.command{border-left:.25rem solid var(--link);font-weight:600;max-height:none;user-select:all}
pre code{font-size:1em}
:focus-visible{outline:.1875rem solid var(--link);outline-offset:.125rem}
.badge{display:inline-flex;align-items:center;gap:.35em;border-radius:99rem;padding:.05rem .6rem;font-size:.85rem;font-weight:650;white-space:nowrap;
color:var(--none);background:var(--none-bg)}
.badge.pass{color:var(--pass);background:var(--pass-bg)}.badge.fail{color:var(--fail);background:var(--fail-bg)}
.badge.warn{color:var(--warn);background:var(--warn-bg)}.badge.info{color:var(--info);background:var(--info-bg)}
.sign{font-weight:800}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.75rem 1.5rem;margin:.5rem 0 0}
.facts .long{grid-column:1/-1}
.facts dt{color:var(--soft);font-size:.85rem}.facts dd{margin:0;font-weight:550}
.facts .badge{white-space:normal}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 2rem}
.count{color:var(--soft);font-weight:500}
ol.boxes{list-style:none;margin:0;padding:0}
.boxes li{padding:.55rem 0;border-top:1px solid var(--rule)}
.boxes p{margin:.15rem 0 0;color:var(--soft);font-size:.9rem}
.answer{display:flex;justify-content:space-between;align-items:flex-start;gap:.75rem}
.question{font-weight:550}
ul{margin:.5rem 0;padding-left:1.25rem}li{margin:.2rem 0}
.bad{border-left:.25rem solid var(--fail);padding-left:.5rem}
.scroll{overflow-x:auto;margin:.75rem 0}.wide{overflow-x:auto}
#restore-steps{max-width:24rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:650;padding:.25rem 0 .5rem}
th,td{text-align:left;vertical-align:top;padding:.45rem .75rem .45rem 0;border-top:1px solid var(--rule);font-weight:400}
thead th{color:var(--soft);font-size:.85rem;font-weight:600;border-top:0;white-space:nowrap}
th.n,td.n{text-align:right;padding-right:.25rem;padding-left:.75rem;white-space:nowrap}
.n+td,.n+th{padding-left:1.5rem}td.n+td.n,th.n+th.n{padding-left:.75rem}
tbody th code{overflow-wrap:anywhere}
.scroll tbody th{min-width:10rem}
#targets-table th:first-child{min-width:7rem}
@media(min-width:76rem){#targets-table td:nth-child(6){min-width:8rem}#targets-table td:nth-child(8){min-width:7rem}
#targets-table td:last-child{min-width:11rem}}
#checks-table th:first-child{min-width:11rem}
#phases-table th:first-child{min-width:8rem}
.scroll td{min-width:7rem}.scroll td.n{min-width:0}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--link);font-weight:550}
details ul,td summary{font-size:.9rem}td details{margin:.1rem 0}
ol.bars{list-style:none;margin:1rem 0 .5rem;padding:0}
.bars li{margin:.6rem 0}
.bar-head{display:flex;flex-wrap:wrap;gap:.1rem .75rem;align-items:baseline;font-size:.95rem}
.bar-head .n{margin-left:auto;color:var(--soft);font-size:.9rem}
svg{display:block;width:100%;color:inherit}
svg.bar{border-radius:.25rem;margin-top:.25rem}
.track{fill:var(--grid)}
rect.bar{fill:var(--none)}rect.bar.pass{fill:var(--s1)}rect.bar.fail{fill:var(--s4)}rect.bar.warn{fill:var(--s2)}
.panels{margin:1.25rem 0 .5rem}
figure{margin:0 0 1rem}
figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1rem;align-items:baseline;font-size:.9rem}
.panel-title{font-weight:650;font-size:1rem}
.key{color:var(--soft)}
.swatch{display:inline-block;width:1.25em;height:0;border-top:.1875rem solid;margin-right:.4em;vertical-align:middle}
.swatch.s1{border-color:var(--s1)}.swatch.s2{border-color:var(--s2);border-top-style:dashed}.swatch.s3{border-color:var(--s3);border-top-style:dotted}.swatch.s4{border-color:var(--s4)}
svg.panel{margin-top:.25rem;overflow:visible}
.grid{stroke:var(--grid);stroke-width:1}
.span{fill:var(--span)}
.line{fill:none;stroke:var(--s1);stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}
.line.s2{stroke:var(--s2);stroke-dasharray:6 4}.line.s3{stroke:var(--s3);stroke-dasharray:1.5 4}.line.s4{stroke:var(--s4)}
.mark{stroke:var(--s4);stroke-width:1.5;stroke-dasharray:4 3;vector-effect:non-scaling-stroke}
svg text{font-size:.75rem;fill:var(--soft)}
footer{color:var(--soft);font-size:.85rem;padding:0 .25rem}
@media(max-width:40rem){
body{padding:.75rem}header.status,section{padding:1rem;border-radius:.6rem}
h1{font-size:1.3rem}h1.long{font-size:1.05rem}
.facts{grid-template-columns:repeat(auto-fill,minmax(9rem,1fr))}
table.stacked,.stacked tbody{display:block}
.stacked thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.stacked caption{display:block}
.stacked tr{display:grid;grid-template-columns:1fr auto;gap:.25rem .75rem;border-top:1px solid var(--rule);padding:.6rem 0}
.stacked th,.stacked td{border:0;padding:0;display:block}
.stacked td{grid-column:1/-1}
.stacked tbody th{font-weight:600}
.stacked th+td{grid-column:2}
.stacked td.n,.stacked td.n+td.n{grid-column:auto;text-align:left;padding:0;color:var(--soft);font-size:.9rem}
.stacked td.empty{display:none}
.stacked td:nth-child(n+3)::before{content:attr(data-label) ": ";color:var(--soft);font-size:.9rem}
#checks-table td:nth-child(3)::before,#phases-table td:nth-child(3)::before{content:none}
}
@media print{
:root{color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--soft:#333;--rule:#bbb;--code:#f2f2f2;--link:#000;
--pass:#0f6a3c;--pass-bg:#fff;--fail:#a5161d;--fail-bg:#fff;--warn:#7a4a00;--warn-bg:#fff;--none:#333;--none-bg:#fff;--info:#0b4f9e;--info-bg:#fff;
--s1:#1f6fc5;--s2:#9a5b00;--s3:#8436b0;--s4:#c2262e;--span:#1f6fc51a;--grid:#bbb;--shade:none}
@page{margin:15mm}
body{padding:0;max-width:none;font-size:10pt}
header.status,section{padding:0;margin:0 0 6mm;border-radius:0}
section.next{padding-left:3mm}
.badge{border:1px solid;print-color-adjust:exact}
svg,.swatch{print-color-adjust:exact;-webkit-print-color-adjust:exact}
tr,figure,.boxes li,.bars li{break-inside:avoid}h2,h3,caption{break-after:avoid}
.scroll{overflow:visible}pre{max-height:none;overflow:visible}
details.samples{display:none}
}
"""

__all__ = ("STYLE",)
