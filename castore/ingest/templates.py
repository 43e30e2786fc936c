"""Chat templates: the registered names, template files, and the tokenizer folder's own.

A registered template is a head (what differs between its relatives) in front of a body that they share; both are in
``templates/*.jinja`` and are castore's own text. What a name renders is fixed by open-instruct's ``CHAT_TEMPLATES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from castore.errors import InvalidInputError, did_you_mean
from castore.olmo.files import TOKENIZER_FILE_BYTES_MAX
from castore.store.files import open_regular

BOS_PREFIX = "{{ bos_token }}"

# Name -> the files whose texts, one after the other, are the template.
REGISTERED: dict[str, tuple[str, ...]] = {
    "olmo": ("olmo", "chatml"),
    "olmo_old": ("olmo_old", "chatml"),
    "olmo_thinker": ("olmo_thinker", "chatml"),
    "olmo_thinker_no_think_7b": ("olmo_thinker_no_think_7b", "chatml"),
    "olmo_thinker_no_think_sft_tokenization": ("olmo_thinker_no_think_sft_tokenization", "chatml"),
    "olmo_thinker_remove_intermediate_thinking": ("olmo_thinker_remove_intermediate_thinking", "chatml"),
    "olmo_thinker_rlzero": ("olmo_thinker_rlzero", "transcript"),
    "olmo_thinker_code_rlzero": ("olmo_thinker_code_rlzero", "transcript"),
    "tulu": ("tulu", "turns"),
    "tulu_thinker": ("tulu_thinker", "turns"),
    "tulu_thinker_r1_style": ("tulu_thinker_r1_style", "turns"),
    "zephyr": ("zephyr",),
    "simple_chat": ("simple_chat",),
    "simple_concat_with_space": ("simple_concat_with_space", "concat"),
    "simple_concat_with_new_line": ("simple_concat_with_new_line", "concat"),
    "assistant_message_only": ("assistant_message_only",),
    "r1_simple_chat": ("r1_simple_chat", "transcript"),
    "r1_simple_chat_postpend_think": ("r1_simple_chat_postpend_think", "transcript"),
    "r1_simple_chat_postpend_think_orz_style": ("r1_simple_chat_postpend_think_orz_style", "transcript"),
    "r1_simple_chat_postpend_think_tool_vllm": ("r1_simple_chat_postpend_think_tool_vllm", "transcript"),
    "qwen_instruct_user_boxed_math": ("qwen_instruct_user_boxed_math",),
}

_FILE_ENDINGS = (".jinja", ".jinja2", ".j2", ".txt")


class TemplateSource(Protocol):
    """What resolving asks of a tokenizer folder; both are as the user gave or wrote them."""

    @property
    def path(self) -> str: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def special_tokens(self) -> dict[str, str]: ...


@cache
def part_text(part: str) -> str:
    """Return the text of one file of ``templates/``."""
    return (Path(__file__).with_name("templates") / f"{part}.jinja").read_text(encoding="utf-8")


def registered_text(name: str) -> str:
    """Return the jinja text of a registered name; KeyError if it is not one."""
    return "".join(map(part_text, REGISTERED[name]))


@dataclass(frozen=True)
class ChatTemplate:
    """A template ready to render: its jinja text, where it came from, and what the user should hear about that.

    Attributes:
        name: As the user spelled it.
        text: Jinja source, with the leading BOS expression if that was asked for.
        warning: One line if the name was unknown and, as asked, the tokenizer's own template stands in; else None.
    """

    name: str
    text: str
    warning: str | None = None

    @classmethod
    def resolve(
        cls, name_or_path: str, folder: TemplateSource, *, add_bos: bool = False, fallback: bool = False
    ) -> ChatTemplate:
        """Find the template that a name means: registered, else a file if it is a path.

        Args:
            name_or_path: A registered name or a template file.
            folder: The tokenizer it will be used with; its path matters, see ``add_bos``.
            add_bos: Put the BOS token in front of every conversation. As in open-instruct, a tokenizer whose path
                says "olmo" needs it with templates that do not say "olmo", and refuses it with those that do.
            fallback: Take the tokenizer's own template for a name that is not registered, as open-instruct does.

        Raises:
            InvalidInputError: Nothing of that name, a file that cannot be read, or BOS asked for or left out wrongly.
        """
        from_file = name_or_path not in REGISTERED and is_template_path(name_or_path)
        warning = None
        if name_or_path in REGISTERED:
            text = registered_text(name_or_path)
        elif from_file:
            text = read_template(name_or_path)
        elif fallback and folder.chat_template is not None:
            text = folder.chat_template
            warning = (
                f"chat template {name_or_path!r} is not a registered name: "
                f"the template of the tokenizer in {folder.path} is used{_meant(name_or_path)}"
            )
        else:
            lacks = f", and the tokenizer in {folder.path} has none of its own" if fallback else ""
            raise InvalidInputError(
                f"chat template {name_or_path!r} is neither a registered name nor a file{lacks}{_meant(name_or_path)}"
                "; castore templates lists the names"
            )
        if not from_file:
            _check_bos_rule(name_or_path, folder.path, add_bos)
        return cls(name_or_path, _with_bos(text, folder) if add_bos else text, warning)

    @classmethod
    def own(cls, folder: TemplateSource, *, add_bos: bool = False) -> ChatTemplate:
        """The tokenizer's own template.

        Raises:
            InvalidInputError: It has none.
        """
        text = folder.chat_template
        if text is None:
            raise InvalidInputError(f"{folder.path} has no chat template of its own: give --chat-template NAME or FILE")
        return cls("tokenizer", _with_bos(text, folder) if add_bos else text)


def is_template_path(name: str) -> bool:
    """Whether a file is meant. One that is missing is then an error: another template would make other data."""
    return name.endswith(_FILE_ENDINGS) or "/" in name or "\\" in name


def _meant(name: str) -> str:
    """What a name that is not registered was probably meant to be, as the end of a sentence."""
    if Path(name).is_file():
        return f"; for the file write ./{name}"
    return did_you_mean(name, REGISTERED, mark="; ")


def read_template(path: str) -> str:
    """The text of a template file.

    Raises:
        InvalidInputError: It cannot be read, is too large, or no UTF-8.
    """
    try:
        with open_regular(path, pipes=True) as file:
            content = file.read(TOKENIZER_FILE_BYTES_MAX + 1)
        if len(content) > TOKENIZER_FILE_BYTES_MAX:
            raise InvalidInputError(f"chat template {path} is larger than {TOKENIZER_FILE_BYTES_MAX} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise InvalidInputError(f"chat template {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"chat template {path} is not UTF-8 (byte {error.start})") from error


def _check_bos_rule(name: str, tokenizer_path: str, add_bos: bool) -> None:
    if "olmo" not in tokenizer_path.lower():
        return
    if "olmo" in name and add_bos:
        raise InvalidInputError(f"chat template {name!r} must not be used with add_bos: OLMo templates carry no BOS")
    if "olmo" not in name and not add_bos:
        raise InvalidInputError(
            f"the tokenizer path {tokenizer_path} says olmo, so chat template {name!r} needs add_bos, as in "
            f"open-instruct: ask for it, or put the tokenizer at a path without olmo in it"
        )


def _with_bos(text: str, folder: TemplateSource) -> str:
    bos = folder.special_tokens.get("bos_token")
    if text.startswith(BOS_PREFIX) or (bos is not None and text.startswith(bos)):
        raise InvalidInputError("add_bos was asked for, but the chat template already begins with the BOS token")
    return BOS_PREFIX + text
