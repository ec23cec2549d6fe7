"""Packaging is in setup.cfg; here only the page goes into the wheel, with its libraries where they are installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPage(build_py):
    """Copies `web/` to `chatstream/web`: what the server serves (see chatstream/server/page.py) and nothing else."""

    def run(self):
        super().run()
        source, target = Path(__file__).parent / "web", Path(self.build_lib) / "chatstream" / "web"
        patterns = ("*.html", "*.js", "*.css", "*.svg")
        libraries = ("node_modules/marked/lib/marked.esm.js", "node_modules/@speed-highlight/core/dist/**/*.js")
        for path in (path for pattern in patterns + libraries for path in source.glob(pattern)):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


setup(cmdclass={"build_py": BuildPage})
