"""What the files beside ``tokenizer.json`` say of a tokenizer, merged as transformers 5 merges them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# In the order in which transformers hands them to templates.
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The name that open-instruct gives a tokenizer without a padding token of its own.
_DEFAULT_PAD = "<pad>"
# What a GPTNeoXTokenizer has where its configuration is silent.
_NEOX = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>") | {"pad_token": "<|padding|>"}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

Settings = dict[str, Any]
Token = dict[str, Any]
"""An added token: its content, and those of its flags that are set."""


def merge_settings(config: Mapping[str, Any], special_map: Mapping[str, Any]) -> Settings:
    """Merge ``tokenizer_config.json`` with ``special_tokens_map.json``, the way older versions wrote them.

    The map is read only if the configuration does not list the added tokens, and then it wins.
    """
    settings = _renamed(config)
    if "added_tokens_decoder" not in settings:
        for name, value in special_map.items():
            before = settings.get("extra_special_tokens") or []
            if name == "extra_special_tokens" and isinstance(value, list) and isinstance(before, list):
                value = [*before, *(token for token in value if token not in before)]
            settings[name] = value
    return {name: value for name, value in _renamed(settings).items() if value is not None}


def _renamed(settings: Mapping[str, Any]) -> Settings:
    old = settings.get("additional_special_tokens")
    rest = {name: value for name, value in settings.items() if name != "additional_special_tokens"}
    return rest if old is None else {"extra_special_tokens": old} | rest


def special_tokens(settings: Settings, padding: str | None) -> dict[str, str]:
    """Return the special tokens by name, as open-instruct completes them before it renders.

    Args:
        settings: From :func:`merge_settings`.
        padding: The padding token that ``tokenizer.json`` itself names.
    """
    tokens = {name: token["content"] for name, token in _named(settings).items()}
    if str(settings.get("tokenizer_class", "")).startswith("GPTNeoX"):
        tokens = _NEOX | tokens
    if padding is not None:
        tokens.setdefault("pad_token", padding)
    if tokens.get("pad_token") in (None, tokens.get("eos_token")):
        tokens["pad_token"] = _DEFAULT_PAD
    return tokens


def listed_tokens(settings: Settings, added: Mapping[str, Any]) -> list[Token]:
    """Return the added tokens that the configuration lists by id: they are added, or get the flags given here.

    Args:
        settings: From :func:`merge_settings`.
        added: ``added_tokens.json``, which older versions wrote instead.
    """
    named = {token["content"] for token in _named(settings).values()}
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        numbered = {
            int(number): _token(token) for number, token in listed.items() if number.isdecimal() and len(number) < 19
        }
        tokens = [token for _, token in sorted(numbered.items()) if token is not None]
        return [token | {"special": True} if token["content"] in named else token for token in tokens]
    special = named | {token["content"] for token in _extra(settings)}
    numbers = {content: number for content, number in added.items() if isinstance(number, int)}
    return [
        {"content": content, "normalized": content not in special, "special": content in special}
        for content in sorted(numbers, key=numbers.__getitem__)
    ]


def unlisted_tokens(settings: Settings, special: Mapping[str, str]) -> list[Token]:
    """Return the special tokens in the order in which they are added where the tokenizer lacks them.

    Args:
        settings: From :func:`merge_settings`.
        special: From :func:`special_tokens`.
    """
    completed = [{"content": content} for content in special.values()]  # most of them named before
    return [*_named(settings).values(), *_extra(settings), *completed]


def _named(settings: Settings) -> dict[str, Token]:
    """The special tokens that have a name, which templates see: the usual ones, then those of the model."""
    others = [name for name in settings if name.endswith("_token") and name not in _NAMES]
    values = {name: settings.get(name) for name in (*_NAMES, *others)}
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, dict):
        values |= extra
    tokens = {name: _token(value) for name, value in values.items()}
    return {name: token for name, token in tokens.items() if token is not None}


def _extra(settings: Settings) -> list[Token]:
    """The special tokens without a name."""
    extra = settings.get("extra_special_tokens")
    tokens = map(_token, extra) if isinstance(extra, list) else ()
    return [token | {"special": True} for token in tokens if token is not None]


def _token(value: Any) -> Token | None:
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return None
    return {"content": value["content"]} | {flag: bool(value[flag]) for flag in _FLAGS if flag in value}


def own_template(template: Any, more: Mapping[str, str]) -> str | None:
    """Return the tokenizer's own template as one text.

    Args:
        template: As the configuration or the template file has it: a text, or several by name.
        more: Further templates by name. One called ``tool_use`` is for conversations with tools.
    """
    if isinstance(template, list):
        template = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
    named = template if isinstance(template, dict) else {"default": template}
    default, tool_use = (more.get(name, named.get(name)) for name in ("default", "tool_use"))
    if not isinstance(default, str) or not isinstance(tool_use, str):
        return default if isinstance(default, str) else None
    # Each text begins a line and loses one newline at its end, as it would alone; plus signs keep white space there.
    texts = [re.sub(r"(\r\n|\r|\n)\Z", "", text) for text in (tool_use, default)]
    return "{% if tools is not none %}\n" + texts[0] + "{%+ else %}\n" + texts[1] + "{%+ endif %}"
