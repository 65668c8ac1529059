import importlib.util
from pathlib import Path
from types import ModuleType

HOOKS = Path(__file__).parents[2] / "litellm" / "hooks"


def load_hook(name: str) -> ModuleType:
    """Import a module of `litellm/hooks` by its path, as LiteLLM does."""
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
