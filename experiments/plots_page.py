"""The page that `dvc plots show` fills, with Vega inside: DVC's own page fetches it from the net.

python experiments/plots_page.py
"""

from __future__ import annotations

from pathlib import Path

import vl_convert

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">{refresh_tag}<title>ddit-eval: plots</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:1rem} img{max-width:100%}</style>
<script type="module">VEGA</script>
</head><body>
{plot_divs}
</body></html>
"""
SNIPPET = "window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;"


def main(out: Path = Path(".dvc/plots/page.html")) -> None:
    """Write the page; `.dvc/config` names it."""
    # DVC's scripts stand in the body and run before a module would; so the bundle is a plain script.
    bundle = vl_convert.javascript_bundle(SNIPPET)
    page = PAGE.replace(' type="module"', "").replace("VEGA", bundle.replace("</script", "<\\/script"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
