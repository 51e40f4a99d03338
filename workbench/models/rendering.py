"""What a chat template writes: which template, in which form it reads text, and on which day."""

import datetime
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

from workbench.errors import ModelError
from workbench.models.clock import ASKS, FIXED_CLOCK, clock_at, day, today
from workbench.models.templates import OWN, chosen_template

Form = Literal["text", "parts"]
"""How a template reads what somebody says: as text, or as a list of typed parts."""

_MARKER = "zebrafish"
"""One word in lower case, so that a template that trims, splits or capitalises still shows it."""


class Rendering:
    """A tokenizer's chat template with everything that decides what it writes.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: Jinja text to use instead of the tokenizer's own, or the name of one of several
            that the tokenizer has; by default the one called ``default``.
        thinking: what a template with a switch for thinking is told, as ``enable_thinking`` and as
            ``thinking``; None leaves it to the template.
        date: the day, as ``2026-01-31``, that a template which writes one is told; by default the
            day of the first rendering. The time of day is midnight.
        origin: what the template is called in errors.

    Raises:
        ModelError: several templates and none called ``default``, or no such name; text that is no
            Jinja; a template that has no switch, or writes no day; a date that is none.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        *,
        thinking: bool | None = None,
        date: str | None = None,
        origin: str = OWN,
    ):
        self.tokenizer = tokenizer
        self.template = chosen_template(getattr(tokenizer, "chat_template", None), template)
        self.thinking = thinking
        self._date = None if date is None else day(date)
        self._forms: dict[str, Form] = {}
        self._dated: bool | None = None
        self._switches: set[str | None] = set()
        self._origin = origin
        self._check_syntax()
        if date is not None:
            self._check_writes_date(date)
        if thinking is not None:
            self._check_switch(None)

    @property
    def date(self) -> str | None:
        """The day that the template writes, as ``2026-01-31``; None for one that writes none."""
        return self._today().isoformat() if self._writes_date() else None

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 of all that decides what is written.

        The template, and where they matter its switch for thinking and its day.
        """
        parts = [str(self.template)]
        parts += [] if self.thinking is None else [f"thinking={self.thinking}"]
        parts += [] if self.date is None else [f"date={self.date}"]
        return _digest("\n".join(parts))

    @property
    def provenance(self) -> dict[str, Any]:
        """What a result must say about its prompts, the fingerprint of a rendered one included."""
        try:
            rendered = _digest(self.render(_MARKER))
        except ModelError:  # a model without a template can still be loaded and looked at
            rendered = None
        return {
            "template": self.fingerprint,
            "rendered": rendered,
            "thinking": self.thinking,
            "date": self.date,
        }

    def render(self, text: str, system: str | None = None) -> str:
        """The rendered prompt, generation prompt included.

        Raises:
            ModelError: there is no template, it fails, or it has no place for a system prompt.
        """
        if self.template is None:
            raise ModelError(
                "this model's tokenizer has no chat template. Pass chat_template= (Jinja text or a "
                ".jinja file) to load_model, or load the instruction-tuned model."
            )
        if self.thinking is not None:
            self._check_switch(system)
        try:
            return self._apply(text, system)
        except ModelError:
            raise
        except Exception as error:  # templates raise whatever their author chose
            raise _cannot_render(error) from error

    def _apply(self, text: str, system: str | None) -> str:
        return self._rendered(text, system, self._user_form(), self._system_form(system))

    def _rendered(
        self,
        text: str,
        system: str | None,
        user_form: Form = "text",
        system_form: Form = "text",
        **settings: Any,
    ) -> str:
        messages = [{"role": "user", "content": _content(text, user_form)}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": _content(system, system_form)})
        if self.thinking is not None:
            settings = {"enable_thinking": self.thinking, "thinking": self.thinking} | settings
        template = str(self.template)
        if ASKS in template:
            template = FIXED_CLOCK + template
            if "workbench_clock" not in settings:
                settings["workbench_clock"] = clock_at(self._today())
        return self.tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            **settings,
        )

    def _user_form(self) -> Form:
        """Text, unless the template fails on it or loses it and shows typed parts."""
        if "user" not in self._forms:
            shown, failed = self._first_that_shows(
                lambda form: self._rendered(_MARKER, None, user_form=form), ("text", "parts")
            )
            if shown is None and failed is not None:
                raise _cannot_render(failed) from failed
            self._forms["user"] = shown or "text"
        return self._forms["user"]

    def _system_form(self, system: str | None) -> Form:
        """The form of the user's words, or the other one.

        Raises:
            ModelError: neither shows a system prompt.
        """
        if system is None or "system" in self._forms:
            return self._forms.get("system", "text")
        user = self._user_form()
        order: tuple[Form, Form] = ("text", "parts") if user == "text" else ("parts", "text")
        shown, failed = self._first_that_shows(
            lambda form: self._rendered("hello", _MARKER, user, form), order
        )
        remedy = "Put the words into the prompt instead, or pass another chat_template=."
        if shown is None and failed is not None:
            raise ModelError(
                f"this model's chat template refuses a system prompt ({failed}). {remedy}"
            ) from failed
        if shown is None:
            raise ModelError(f"this model's chat template drops the system prompt. {remedy}")
        self._forms["system"] = shown
        return shown

    @staticmethod
    def _first_that_shows(
        rendered: Any, forms: tuple[Form, Form]
    ) -> tuple[Form | None, Exception | None]:
        """The first form in which the marker is shown, and how the first one failed."""
        failed: Exception | None = None
        for form in forms:
            try:
                text = rendered(form)
            except Exception as error:  # templates raise whatever their author chose
                if form == forms[0]:
                    failed = error
                continue
            # A template that knows only text writes a list of parts as code.
            as_code = form == "parts" and re.search(r"['\"]type['\"]: ?['\"]text", text)
            if _MARKER in text.lower() and not as_code:
                return form, None
        return None, failed

    def _check_syntax(self) -> None:
        """Refuses text that is no Jinja; other errors of a template come from `render`."""
        from jinja2 import TemplateSyntaxError

        try:
            if self.template is not None:
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": _MARKER}],
                    chat_template=str(self.template),
                    tokenize=False,
                )
        except TemplateSyntaxError as error:
            told = " ".join(str(error.message).split()).rstrip(".")
            raise ModelError(
                f"{self._origin} is no Jinja template: line {error.lineno}: {told}. Mend it, or "
                "pass another chat_template=."
            ) from error
        except Exception:  # templates raise whatever their author chose
            return

    def _check_writes_date(self, date: str) -> None:
        """Refuses a day that changes nothing."""
        if self.template is not None:
            self._user_form()
        if not self._writes_date():
            raise ModelError(
                f"date={date!r} does nothing: {self._origin} writes no day. Leave date= out."
                if self.template is not None
                else f"date={date!r} does nothing: this model's tokenizer has no chat template. "
                "Pass chat_template= too."
            )

    def _writes_date(self) -> bool:
        """Whether what is written hangs on the day."""
        if self._dated is None:
            self._dated = False
            if ASKS in str(self.template):
                days = (datetime.date(2001, 2, 3), datetime.date(2014, 11, 25))
                try:
                    form = self._user_form()
                except Exception:  # whatever its author chose; `render` says so
                    return False
                self._dated = any(self._differs(system, form, days) for system in (None, _MARKER))
        return self._dated

    def _differs(self, system: str | None, form: Any, days: Sequence[datetime.date]) -> bool:
        """Whether a prompt is another one on another day; not where there is none."""
        try:
            forms = (form,) if system is None else (form, self._system_form(system))
            texts = {
                self._rendered(_MARKER, system, *forms, workbench_clock=clock_at(each))
                for each in days
            }
        except Exception:  # a template without a place for a system prompt
            return False
        return len(texts) > 1

    def _today(self) -> datetime.date:
        """The fixed day: as given, or as Hugging Face's own clock showed it at first."""
        if self._date is None:
            self._date = today(self.tokenizer)
        return self._date

    def _check_switch(self, system: str | None) -> None:
        """Refuses a setting for thinking that changes nothing."""
        if system in self._switches:
            return
        if self.template is None:
            raise ModelError(
                "thinking= does nothing: this model's tokenizer has no chat template. Pass "
                "chat_template= too."
            )
        forms = self._user_form(), self._system_form(system)
        texts = {
            self._rendered(_MARKER, system, *forms, enable_thinking=value, thinking=value)
            for value in (True, False)
        }
        if len(texts) == 1:
            where = "" if system is None else " under this system prompt"
            raise ModelError(
                f"this model's chat template has no switch for thinking{where}: it writes the same "
                "with enable_thinking (or thinking) true and false. Leave thinking= out; where the "
                "model's card says so, put the wish into the system prompt."
            )
        self._switches.add(system)


def _cannot_render(error: Exception) -> ModelError:
    return ModelError(
        f"this model's chat template cannot render a prompt ({error}). Pass another chat_template=."
    )


def _content(text: str, form: Form) -> Any:
    return text if form == "text" else [{"type": "text", "text": text}]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
