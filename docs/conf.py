"""How Sphinx builds the site, see scripts/docs_site.py."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # an older version documents its own code

import airflow_provider_kling  # noqa: E402

project = "airflow-provider-kling"
version = release = airflow_provider_kling.__version__
copyright = "the authors, Apache License 2.0"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
templates_path = ["_templates"]

# A broken link, or a name that is not found, is a warning; the build turns warnings into errors.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!airflow_provider_kling\.).*|.*\.[A-Z]")
]  # other projects, type variables
myst_heading_anchors = 3
myst_url_schemes = ["http", "https"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autosummary_generate = True
autoclass_content = "class"

html_theme = "furo"
html_title = f"Kling for Apache Airflow {version}"
html_show_sphinx = False
html_show_sourcelink = False
html_context = {"versions": os.environ.get("DOCS_VERSIONS", version).split()}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/versions.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
