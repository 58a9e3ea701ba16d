"""Templates: a text's place inside of a fixed sentence, which is read here and filled in `inbatch.text.filling`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from inbatch.errors import UsageError

SLOT = "{text}"
MASK = "{mask}"
LEARNED = "{learned}"
INSTRUCTION = "{instruction}"
SEAM = "{seam}"
LEARNED_MARK = "<EMBED"
LEARNED_TOKEN = LEARNED_MARK + "{}>"
_SLOTS = (SLOT, MASK, LEARNED, INSTRUCTION, SEAM)


@dataclass(frozen=True)
class Template:
    """The token ids around a text.

    Attributes:
        pieces: token ids before, between and behind the copies of the text; special tokens at both ends.
        mask: place of the mask token: counted from the left in the first piece, or from the last one's first token; None without one.
        mask_is_right: whether it stands behind the text.
        learned: places of the learned tokens, counted from the last piece's first token.

    Example:
        >>> template = Template(pieces=((101, 7), (8, 103, 102)), mask=1, mask_is_right=True)  # "[CLS] 7 {text} 8 [MASK] [SEP]"
        >>> len(template), template.copies
        (5, 1)
        >>> template.mask_position(3)  # around a text of three tokens
        6
    """

    pieces: tuple[tuple[int, ...], ...]
    mask: int | None
    mask_is_right: bool
    learned: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    @property
    def left(self) -> tuple[int, ...]:
        """What stands before the text."""
        return self.pieces[0]

    @property
    def right(self) -> tuple[int, ...]:
        """What stands behind the text's last copy."""
        return self.pieces[-1]

    @property
    def copies(self) -> int:
        """How often the text stands there: once, but for echoes."""
        return len(self.pieces) - 1

    def mask_position(self, length: int) -> int:
        """Return the place of the mask token around a text of so many tokens."""
        assert self.mask is not None
        return self.mask + (len(self) - len(self.right) + self.copies * length if self.mask_is_right else 0)


def is_template(prompt: str) -> bool:
    """Say whether a prompt is a template; else it is a prefix.

    Example:
        >>> is_template('"{text}" means {mask}.'), is_template("query: ")
        (True, False)
    """
    return SLOT in prompt


def instructed(prompt: str, instruction: str | None, tokenizer: Any) -> str:
    """Put an instruction into a prompt.

    Raises:
        UsageError: if the prompt has no place for it, or it is missing, or it has slots or tokens that mark places itself.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> instructed("Instruct: {instruction} Query: ", "find the answer", tiny_tokenizer("bert", 64, "right"))
        'Instruct: find the answer Query: '
    """
    if (instruction is not None) != (INSTRUCTION in prompt):
        got = (
            f"got {instruction!r} and the prompt {prompt!r}"
            if instruction is not None
            else f"the prompt {prompt!r} has its place"
        )
        raise UsageError(
            f"expected an instruction and its place {INSTRUCTION} in the prompt, or neither; {got}. Set encoder.prompts, and "
            "columns.instruction or instruction of the source; where you encode, instruction=… or --instruction."
        )
    if instruction is None:
        return prompt
    marks = [*_SLOTS, *([tokenizer.mask_token] if tokenizer.mask_token else [])]
    marks += [LEARNED_MARK] if learned_ids(tokenizer) else []
    if found := [mark for mark in marks if mark in instruction]:
        raise UsageError(
            f"expected an instruction without slots and special tokens; {instruction!r} has {found[0]}. Reword it."
        )
    return prompt.replace(INSTRUCTION, instruction)


def filled_length(tokenizer: Any, prompt: str, length: int) -> int:
    """Return the tokens of a filled template around a text of so many tokens; a prefix counts as text.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer("bert", 64, "right")  # one token a letter
        >>> filled_length(tokenizer, "{text} is {mask}.", 3)  # [CLS], three, four of " is ", [MASK], the full stop and [SEP]
        11
    """
    if not is_template(prompt):
        return length
    template = parse(tokenizer, prompt)
    return len(template) + template.copies * length


def check_template(prompt: str, tokenizer: Any, pooling: str) -> None:
    """Refuse a prompt that cannot be filled.

    Args:
        prompt: a template or a prefix.
        tokenizer: of the encoder.
        pooling: which must find its token: ``mask`` or ``learned``; the others find theirs anywhere.

    Raises:
        UsageError: if a slot is missing, unknown, in a wrong place or there too often.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> check_template("{text} is {mask}.", tiny_tokenizer("bert", 64, "right"), "mask")
        >>> check_template("{text} is.", tiny_tokenizer("bert", 64, "right"), "mask")
        Traceback (most recent call last):
        inbatch.errors.UsageError: pooling `mask` expects one {mask} in the template '{text} is.'; it has 0. Set encoder.prompts.
    """
    where = f"in the template {prompt!r}"
    if MASK in prompt and tokenizer.mask_token is None:
        raise UsageError(f"expected a tokenizer with a mask token for the template {prompt!r}; this one has none.")
    for slot in (MASK, LEARNED, SEAM):
        if slot in prompt and SLOT not in prompt:
            raise UsageError(f"expected the slot {SLOT} {where}; it is missing. Set encoder.prompts.")
    # Also where no slot is right: a misspelt {text} would make the template a prefix.
    if unknown := [word for word in re.findall(r"\{\w+\}", prompt) if word not in _SLOTS]:
        raise UsageError(
            f"expected only the slots {', '.join(_SLOTS[:-1])} and {SEAM} in the prompt {prompt!r}; got {unknown[0]}. Set "
            "encoder.prompts."
        )
    if LEARNED in prompt and not learned_ids(tokenizer):
        raise UsageError(
            f"expected a tokenizer with learned tokens ({LEARNED_TOKEN.format(0)}, …) for the slot {LEARNED} {where}; it has none. Set "
            "backbone.learned_tokens, or start from the export of a stage that has them."
        )
    if not is_template(prompt):
        return
    first, *between, last = prompt.split(SLOT)
    if any(slot in part for part in (first, *between) for slot in (LEARNED, SEAM)) or any(
        MASK in part for part in between
    ):
        raise UsageError(
            f"expected {LEARNED} and {SEAM} behind the text, and {MASK} before or behind all its copies, {where}. Set encoder.prompts."
        )
    marks = prompt.count(MASK) + (prompt.count(tokenizer.mask_token) if tokenizer.mask_token else 0)
    if pooling == "mask" and marks != 1:
        raise UsageError(f"pooling `mask` expects one {MASK} {where}; it has {marks}. Set encoder.prompts.")
    if pooling == "learned" and last.count(LEARNED) != 1:
        raise UsageError(
            f"pooling `learned` expects one {LEARNED} {where}; it has {last.count(LEARNED)}. Set encoder.prompts."
        )


@lru_cache(maxsize=4096)
def parse(tokenizer: Any, prompt: str) -> Template:
    """Tokenize what is around the text, by itself, as PromptBERT's released training does.

    Blanks right before a text are left out: to a byte-pair vocabulary they would be a token of their own. What follows the text
    is tokenized as it would be behind a letter, so that a vocabulary which puts a blank before each string puts none there; what
    follows a `SEAM` is a string by itself.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer("bert", 64, "right")  # one token a letter
        >>> template = parse(tokenizer, "a {text} is {mask}.")
        >>> tokenizer.decode(template.left), tokenizer.decode(template.right)  # no blank right before the text
        ('[CLS]a', ' is [MASK].[SEP]')
        >>> template.mask  # its place on the right
        4
    """
    parts = [_spelled(tokenizer, part) for part in prompt.split(SLOT)]
    head, tail = special_tokens(tokenizer)
    parts = [*(part.rstrip(" ") for part in parts[:-1]), parts[-1]]
    pieces = [_ids(tokenizer, parts[0])]
    for part in parts[1:]:
        follows, *others = part.split(SEAM)
        pieces.append(sum((_ids(tokenizer, other) for other in others), _ids_behind(tokenizer, follows)))
    pieces[0], pieces[-1] = (*head, *pieces[0]), (*pieces[-1], *tail)
    mine = set(learned_ids(tokenizer)) if LEARNED in prompt else set()
    learned = tuple(place for place, token in enumerate(pieces[-1]) if token in mine)
    for is_right, ids in ((False, pieces[0]), (True, pieces[-1])):
        if tokenizer.mask_token_id is not None and tokenizer.mask_token_id in ids:
            return Template(tuple(pieces), ids.index(tokenizer.mask_token_id), is_right, learned)
    return Template(tuple(pieces), None, False, learned)


def as_string(tokenizer: Any, text: str, prompt: str) -> tuple[str, int]:
    """Fill a template as a string, and say where the text's last copy begins in it.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> as_string(tiny_tokenizer("bert", 64, "right"), "a cat", '"{text}" is {mask}.')
        ('"a cat" is [MASK].', 1)
    """
    parts = [_spelled(tokenizer, part).replace(SEAM, "") for part in prompt.split(SLOT)]
    before = text.join(parts[:-1])
    return before + text + parts[-1], len(before)


def special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a tokenizer puts before and after a text.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer("bert", 64, "right")
        >>> [tokenizer.convert_ids_to_tokens(ids) for ids in special_tokens(tokenizer)]
        [['[CLS]'], ['[SEP]']]
    """
    plain, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    place = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return tuple(whole[:place]), tuple(whole[place + len(plain) :])


def learned_ids(tokenizer: Any) -> list[int]:
    """Return the ids of a tokenizer's learned tokens, in their order; empty without any.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> tokenizer = TinyRandom("llama", learned_tokens=2).tokenizer
        >>> tokenizer.convert_ids_to_tokens(learned_ids(tokenizer))
        ['<EMBED0>', '<EMBED1>']
    """
    added = tokenizer.get_added_vocab()
    names = [LEARNED_TOKEN.format(i) for i in range(len(added))]
    return [added[name] for name in names if name in added]


def with_period(text: str) -> str:
    """Add a full stop to a text that does not end in one of ``. ? " '``, as PromptBERT's released evaluation does.

    Example:
        >>> with_period("a cat"), with_period("a cat?"), with_period("a cat!")
        ('a cat.', 'a cat?', 'a cat!.')
    """
    return text if text.endswith((".", "?", '"', "'")) else text + "."


def _spelled(tokenizer: Any, part: str) -> str:
    if LEARNED in part:
        part = part.replace(LEARNED, "".join(LEARNED_TOKEN.format(i) for i in range(len(learned_ids(tokenizer)))))
    return part.replace(MASK, tokenizer.mask_token or MASK)


def _ids(tokenizer: Any, string: str) -> tuple[int, ...]:
    return tuple(tokenizer(string, add_special_tokens=False)["input_ids"])


def _ids_behind(tokenizer: Any, string: str) -> tuple[int, ...]:
    letter, both = _ids(tokenizer, "a"), _ids(tokenizer, "a" + string)
    return both[len(letter) :] if both[: len(letter)] == letter else _ids(tokenizer, string)
