"""Settings of the documentation site (`make docs`): the pages of this folder, and the API reference
from docstrings.

Nothing is fetched. Warnings are errors: a link to a page, heading or type of ours that is not there
ends the build.
"""

import inspect
import re
from typing import Any, get_type_hints

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import stringify_annotation

import dataseg_hf.settings.run  # noqa: F401 - defines all classes of settings
from dataseg_hf import __version__
from dataseg_hf.settings.base import Settings

project = "dataseg_hf"
author = "the authors of dataseg_hf"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
highlight_language = "text"  # of blocks that name no language
myst_heading_anchors = 3

# Docstrings write `code`, which links where it names something of ours.
default_role = "py:obj"
napoleon_numpy_docstring = False
napoleon_use_param = False  # "a, b: ..." is one entry for two arguments
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# Types in signatures are to be found, those of other packages aside; what docstrings have in
# backticks may be any code.
nitpicky = True
nitpick_ignore = [  # type variables, and what only the package itself calls
    ("py:class", "dataseg_hf.model.tasks_dataseg.Flags"),
    ("py:class", "dataseg_hf.model.warm_start_mixin_dataseg.Model"),
    ("py:class", "dataseg_hf.model.vocabularies_dataseg.VocabularyMixin"),
    ("py:class", "dataseg_hf.settings.entries.AnySource"),
    ("py:class", "dataseg_hf.settings.base._entry_name"),
    ("py:class", "dataseg_hf.files.lock.FolderLock"),
    ("py:class", "dataseg_hf.processes.Result"),
]
nitpick_ignore_regex = [("py:obj", ".*"), ("py:(class|data|exc)", r"(?!dataseg_hf\.).*")]

html_theme = "furo"
html_title = f"dataseg_hf {__version__}"
html_copy_source = False
html_show_copyright = False


def link_class(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """A link for the bare name of a class that one module alone documents, e.g. `DatasetSpec`."""
    target = node.get("reftarget", "")
    if node.get("reftype") != "obj" or not target[:1].isupper():
        return None
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.domains.python_domain.objects.items()
        if name.endswith(f".{target}")
        and entry.objtype in ("class", "exception")
        and not entry.aliased
    }
    if len(found) != 1:
        return None
    docname, anchor = found.pop()
    return make_refnode(app.builder, node["refdoc"], docname, anchor, content, target)


def readable_signature(*event: Any) -> tuple[str | None, str | None]:
    """Signature and return type with numpy's names for arrays, and `...` for defaults that print as
    no Python.
    """
    signature, returns = event[-2:]
    return signature and _readable(signature), returns and _readable(returns)


def _readable(text: str) -> str:
    text = text.replace(stringify_annotation(ArrayLike, "smart"), "~numpy.typing.ArrayLike")
    text = re.sub(
        r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype(\[[^\]]*\])\]",
        r"~numpy.typing.NDArray\1",
        text,
    )
    return re.sub(r"<factory>|<function \S*<lambda>>", "...", text)


def settings_classes(base: type[Settings] = Settings) -> list[type[Settings]]:
    """The class and all that inherit from it."""
    return [base, *(found for sub in base.__subclasses__() for found in settings_classes(sub))]


def show_bare_types() -> None:
    """Take pydantic's checks out of the types of settings: `float`, not `Annotated[float, ...]`."""
    for documented in settings_classes():
        bare = get_type_hints(documented)
        signature = inspect.signature(documented)
        fields = [
            field.replace(annotation=bare[name]) for name, field in signature.parameters.items()
        ]
        documented.__signature__ = signature.replace(parameters=fields)
        documented.__annotations__ = {name: bare[name] for name in documented.__annotations__}


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    show_bare_types()
    app.connect("missing-reference", link_class)
    app.connect("autodoc-process-signature", readable_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
