"""Packaging is in setup.cfg; here the page goes into the wheel, with its libraries where they are installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPage(build_py):
    """Copies the files that the server looks for: `web/`, and the README that search_docs reads."""

    def run(self):
        super().run()
        source, target = Path(__file__).parent, Path(self.build_lib) / "chatstream"
        page = ("README.md", "web/*.html", "web/*.js", "web/*.css", "web/*.svg")
        libraries = (
            "marked/lib/marked.esm.js",
            "@speed-highlight/core/dist/tokenize.js",
            "@speed-highlight/core/dist/languages/*.js",
            "temml/dist/temml.mjs",
            "temml/dist/*.css",
            "temml/dist/*.woff2",
        )
        patterns = (*page, *(f"web/node_modules/{library}" for library in libraries))
        for path in (path for pattern in patterns for path in source.glob(pattern)):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


setup(cmdclass={"build_py": BuildPage})
