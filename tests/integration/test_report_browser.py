# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML report of real runs in a real browser: no violation of axe-core, nothing beside the page, nothing loaded."""

from __future__ import annotations

import html as library
import json
import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import POLICY, html
from conftest import ROOT
from support.matrix import index
from support.runbooks import Play, records

from tools.microcare import Staging

AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"
_META = '<meta http-equiv="Content-Security-Policy" content="%s"/>' % library.escape(POLICY)
#: In the page: everything unfolded, then its size and what axe-core finds. The page's own policy would forbid it, so it is a copy without.
_EXAMINE = """
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  axe.run(document, {resultTypes: ["violations"]}).then(
    found => ({width: innerWidth, over, dark: matchMedia("(prefers-color-scheme: dark)").matches, passes: found.passes.length,
               background: getComputedStyle(document.body).backgroundColor, charts: [...document.querySelectorAll("svg.panel")].map(one => one.getBoundingClientRect().width),
               violations: found.violations.map(one => [one.id, one.nodes.map(node => node.html).slice(0, 3)])}),
    error => ({error: String(error)})
  ).then(found => parent.postMessage([window.name, found], "*"));
});
"""
_WRAPPER = """<!DOCTYPE html><html lang="en"><head><title>wrapper</title></head><body style="margin:0">%s<pre id="result"></pre>
<script>const found = {}; addEventListener("message", event => { found[event.data[0]] = event.data[1]; document.getElementById("result").textContent = JSON.stringify(found) })</script>
</body></html>"""
_FRAME = '<iframe src="copy_%s.html" name="%s %d" title="%s at %d" style="border:0;display:block;width:%dpx;height:2000px"></iframe>'
#: What goes wrong in the page of a report, for the test of the test.
_BROKEN = '<!DOCTYPE html><html><head></head><body><img src="x.png"><p style="color:#ccc;background:#fff;width:3000px">pale</p></body></html>'


class Browser:
    def __init__(self, program: str, folder: pathlib.Path) -> None:
        self.program, self.folder = program, folder

    def load(self, page: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
        profile = self.folder / "profile"
        command = [
            self.program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-quic", "--user-data-dir=%s" % profile, "--window-size=1400,2000", "--virtual-time-budget=30000", *options, page.as_uri(),
        ]  # fmt: skip
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        finally:
            shutil.rmtree(profile, ignore_errors=True)

    def examine(self, pages: dict[str, str], widths: t.Sequence[int], dark: bool) -> dict[tuple[str, int], dict[str, t.Any]]:
        """What axe-core and the pages themselves say of them, each in every width; all in one start of the browser."""
        script = "<script>%s</script><script>%s</script>" % (AXE.read_text(encoding="utf-8").replace("</script", "<\\/script"), _EXAMINE)
        for name, content in pages.items():
            (self.folder / ("copy_%s.html" % name)).write_text(content.replace(_META, "").replace("</head>", script + "</head>", 1), encoding="utf-8")
        frames = [_FRAME % (name, name, width, name, width, width) for name in pages for width in widths]
        wrapper = self.folder / "wrapper.html"
        wrapper.write_text(_WRAPPER % "".join(frames), encoding="utf-8")
        done = self.load(wrapper, "--dump-dom", "--blink-settings=preferredColorScheme=%d" % (0 if dark else 1))
        told = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
        assert told and told.group(1), (done.stdout[-2000:], done.stderr[-2000:])
        found = json.loads(library.unescape(told.group(1)))
        assert set(found) == {"%s %d" % (name, width) for name in pages for width in widths}
        return {(name, width): found["%s %d" % (name, width)] for name in pages for width in widths}


@pytest.fixture
def browser(tmp_path: pathlib.Path) -> Browser:
    program = next((found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install --no-install-recommends chromium")
    if not AXE.exists():
        pytest.skip("no axe-core: npm ci --ignore-scripts in tests/browser")
    return Browser(program, tmp_path)


def watched(record: dict[str, t.Any]) -> dict[str, t.Any]:
    """The record with a monitor's result, if its run was too short for one."""
    names = [entry["name"] for entry in record["deploy"]["applied"]]
    samples = [
        {"t": number / 2, "active": number % 7, "idle_in_transaction": number % 2, "waiting": 0, "blocked": number % 5, "size": 9_000_000 + 1000 * number, "wal": number * 4096,
         "temp": number, "lag": 0.1, "oldest_transaction": 1.0}
        for number in range(1, 121)
    ]  # fmt: skip
    monitor = {
        "interval": 0.5, "seconds": 60.0, "taken": 120, "samples": samples, "blocked_sessions": 4, "longest_block": 2.5, "longest_wait": 0.0, "wal": 491520, "temp": 120,
        "locks": [{"relation": "public.appointments", "mode": "AccessExclusiveLock", "held": 2.5, "waited": 0.0, "first": 1.0}],
        "blocks": [{"at": 1.2, "seconds": 2.5, "pid": 12, "application": "api<b>", "user": "app", "relation": "public.appointments", "mode": "AccessShareLock", "by": "migration"}],
        "progress": [{"migration": names[0], "command": "CREATE INDEX", "relation": "public.users", "phase": "building index", "percent": 80.0, "at": 3.0}],
        "index_builds": [{"index": "public.i", "table": "public.users", "seconds": 2.0}], "rewrites": ["public.users"], "size_before": 9_000_000, "size_after": 9_120_000,
        "migrations": [{"name": name, "started": 10.0 * number, "ended": 10.0 * number + 9.0, "state": "applied"} for number, name in enumerate(names)],
        "cancelled": [{"at": 5.0, "what": "migration", "reason": "blocked 3 sessions for 5.0 s", "retry": 1}],
    }  # fmt: skip
    return dict(record, deploy=dict(record["deploy"], monitor=monitor))


@pytest.mark.slow
@pytest.mark.parametrize("failing", [pytest.param(False, id="applied"), pytest.param(True, id="rolled_back", marks=[pytest.mark.exhaustive])], indirect=True)
def test_the_report_of_a_real_run_in_a_browser(browser: Browser, staging: Staging, play: Play, failing: bool) -> None:
    done = play("staging_migrate.yml", staging)
    assert done.returncode == (2 if failing else 0), done.stdout
    (record,) = records(staging)
    pages = {"real": html(record)}
    if not failing:
        pages["watched"] = html(watched(record))
        pages["index"] = index([record, dict(record, target="b<i>")], {"b<i>": "b.html"}, {"gone": "unreachable"})
    for dark in (False, True):
        for (name, width), found in browser.examine(pages, (1280, 390), dark).items():
            assert (found["violations"], found["over"], found["width"], found["dark"]) == ([], 0, width, dark), (name, found)
            assert found["passes"] > 15 and found["background"] == ("rgb(15, 20, 26)" if dark else "rgb(245, 246, 248)")
            # The monitor of the real run has as many charts as it saw kinds of numbers.
            assert name != "watched" or (len(found["charts"]) == 6 and min(found["charts"]) > width * 0.8), found["charts"]


def test_the_examination_finds_what_is_wrong(browser: Browser) -> None:
    sound = index([], {}, {"a": "unreachable"})
    both = browser.examine({"sound": sound, "broken": _BROKEN}, (390,), dark=False)
    assert both["sound", 390]["violations"] == [], "one page is not blamed for the other"
    found = both["broken", 390]
    assert {"image-alt", "html-has-lang", "document-title", "color-contrast"} <= {name for name, _nodes in found["violations"]} and found["over"] > 2000


def test_the_policy_lets_the_page_be_and_nothing_else(browser: Browser, tmp_path: pathlib.Path) -> None:
    content = index([], {}, {"a": "unreachable"})
    assert content.count(_META) == 1
    page = tmp_path / "page.html"
    page.write_text(content, encoding="utf-8")
    quiet = browser.load(page, "--dump-dom", "--enable-logging=stderr")
    assert "Content Security Policy" not in quiet.stderr and "1 needs somebody" in quiet.stdout
    page.write_text(content.replace("</main>", '<img src="x.png" alt=""/><script>document.title = "run"</script></main>'), encoding="utf-8")
    refused = browser.load(page, "--dump-dom", "--enable-logging=stderr")
    assert refused.stderr.count("Content Security Policy") >= 2 and "<title>run" not in refused.stdout
