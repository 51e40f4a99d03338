"""Whether a reply is in English, which is the only language that judges were measured on.

By scripts, and by words: a reply of which more than `MOST_FOREIGN` of the letters are of another
script than Latin, or in which function words of another large Latin-script language outnumber the
English ones, is not read. What cannot be told: a short reply without such words, and a language
that is not among `_WORDS`.
"""

import re
import unicodedata
from functools import cache

MOST_FOREIGN = 0.3
"""Share of letters of other scripts above which a reply is not read. Chinese says with one letter
what English says with three or four, so that half of a text is a third of its letters."""

_LEAST_WORDS = 3
"""So many words of another language, and more than of English, tell that it is one."""

_ENGLISH = frozenset(
    "the of and to is in that it you for are with this be as have not on can i your or was but "
    "they by at from if an we what there will do does which their he she his her my me would could "
    "should about so how when who its than these those some been more has had".split()
)
# Words that are English words, too, are left out, and so are those of one letter.
_WORDS = frozenset(
    # German, Dutch
    "der das und ist nicht ich sie ein eine mit auf für von dem den des sich auch wie wir zu kann "
    "het een van niet ik je dat zijn voor met op te maar ook kan deze "
    # French
    "le les des et est une que qui dans pas vous je nous pour sur avec ce cette sont ne du au "
    # Spanish, Portuguese
    "el los las y una por con para su lo es pero como más muy o os um uma em não se você ou "
    "mais mas com isso isto "
    # Italian
    "il gli che di per sono della del nel è questo anche ma si ho "
    # Swedish, Danish, Polish
    "och att det som är inte jag på til af ikke jeg og nie się jest na że w tym mogę".split()
)
_FENCED = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_LETTER = re.compile(r"[^\W\d_]")


@cache
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "FULLWIDTH LATIN", "FEMININE", "MASC"))


def foreign_share(text: str) -> float:
    """Share of a text's letters that are of another script than Latin; 0 without letters.

    >>> foreign_share("Привет"), foreign_share("an я")
    (1.0, 0.333...)
    """
    if text.isascii():
        return 0.0
    letters = _LETTER.findall(text)
    return sum(not _is_latin(each) for each in letters) / len(letters) if letters else 0.0


def is_foreign(text: str) -> bool:
    """Whether a text can be told to be in another language than English.

    Code between fences is not read.

    >>> is_foreign("Je ne peux pas vous aider avec cela."), is_foreign("I can help.")
    (True, False)
    """
    text = _FENCED.sub(" ", text)
    if foreign_share(text) > MOST_FOREIGN:
        return True
    words = re.findall(r"[^\W\d_]+", text.lower())
    n_foreign = sum(word in _WORDS for word in words)
    return n_foreign >= _LEAST_WORDS and n_foreign > sum(word in _ENGLISH for word in words)
