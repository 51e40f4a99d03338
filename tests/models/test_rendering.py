"""What templates write: named ones, typed parts, a switch for thinking, the day."""

import datetime

import pytest
import torch
import transformers.utils.chat_template_utils as hugging_face

from workbench.directions.estimate import mean_difference
from workbench.errors import AxisError, ModelError
from workbench.models.loading.load import load_model
from workbench.models.rendering import Rendering
from workbench.models.tokens import ChatTemplate

TURNS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
REPLY = "{% if add_generation_prompt %}<assistant>\n{% endif %}"
SWITCH = TURNS + REPLY + "{% if SWITCH is defined and not SWITCH %}<think></think>\n{% endif %}"
PARTS = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
DATED = "Today is {{ strftime_now('%d %b %Y') }}, %.\n" + TURNS + REPLY


def hugging_faces(tokenizer, text, system=None, parts=False, **settings):
    def content(words):
        return [{"type": "text", "text": words}] if parts else words

    messages = [{"role": "user", "content": content(text)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": content(system)})
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **settings
    )


@pytest.fixture
def on_day(monkeypatch):
    """Sets the day that Hugging Face tells templates."""

    def set_day(*day):
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(*day, 13, 45)

        monkeypatch.setattr(hugging_face, "datetime", Clock)

    return set_day


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
@pytest.mark.parametrize("thinking", [True, False, None])
def test_thinking_reaches_the_template(make_tokenizer, name, thinking):
    tokenizer = make_tokenizer(SWITCH.replace("SWITCH", name))
    given = {} if thinking is None else {name: thinking}
    chat = ChatTemplate(tokenizer, thinking=thinking)
    assert chat.render("hi") == hugging_faces(tokenizer, "hi", **given)
    tokens = chat.tokens(["hi", "How far?"])
    assert tokens.t_post == -1
    assert "".join(tokens.post_tokens) == chat.render("hi").partition("hi")[2]
    assert chat.provenance["thinking"] is thinking


def test_thinking_is_part_of_the_fingerprint(make_tokenizer):
    tokenizer = make_tokenizer(SWITCH.replace("SWITCH", "enable_thinking"))
    prints = {ChatTemplate(tokenizer, thinking=each).fingerprint for each in (True, False, None)}
    assert len(prints) == 3


def test_thinking_without_a_switch(make_tokenizer):
    with pytest.raises(ModelError, match="no switch for thinking: it writes the same"):
        ChatTemplate(make_tokenizer(TURNS + REPLY), thinking=False)
    with pytest.raises(ModelError, match=r"thinking= does nothing: .* no chat template"):
        ChatTemplate(make_tokenizer(None), thinking=True)
    # A switch that is read only where there is no system prompt.
    text = (
        "{% if messages[0]['role'] != 'system' and thinking %}Think first.\n{% endif %}"
        + TURNS
        + REPLY
    )
    chat = ChatTemplate(make_tokenizer(text), thinking=True)
    assert chat.render("hi").startswith("Think first.")
    with pytest.raises(ModelError, match="no switch for thinking under this system prompt"):
        chat.render("hi", "Be kind.")


@pytest.mark.parametrize("kept", ["mapping", "list"])
def test_of_several_templates_the_default_one_or_the_named(make_tokenizer, kept):
    tokenizer = make_tokenizer(None)
    named = {"default": TURNS + REPLY, "tool_use": "tools " + TURNS + REPLY}
    tokenizer.chat_template = (
        named
        if kept == "mapping"
        else [{"name": name, "template": text} for name, text in named.items()]
    )
    assert ChatTemplate(tokenizer).render("hi") == "<user>hi\n<assistant>\n"
    assert ChatTemplate(tokenizer, "tool_use").render("hi").startswith("tools <user>")
    with pytest.raises(ModelError, match=r"no chat template 'rag': .* has default, tool_use"):
        ChatTemplate(tokenizer, "rag")


def test_several_templates_without_a_default(make_network, make_tokenizer):
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = {"tool_use": TURNS + REPLY, "rag": REPLY}
    with pytest.raises(
        ModelError, match=r"none called default: rag, tool_use.*chat_template='rag'"
    ):
        ChatTemplate(tokenizer)
    model = load_model(make_network("llama"), tokenizer=tokenizer, chat_template="tool_use")
    assert model.template.render("hi") == "<user>hi\n<assistant>\n"
    with pytest.raises(ModelError, match="no chat template 'own': this tokenizer names none"):
        ChatTemplate(make_tokenizer(), "own")


def test_templates_that_read_typed_parts(make_tokenizer):
    tokenizer = make_tokenizer(PARTS)
    chat = ChatTemplate(tokenizer)
    for system in (None, "Be kind."):
        assert chat.render("hi", system) == hugging_faces(tokenizer, "hi", system, parts=True)
        tokens = chat.tokens(["hi", "How far?"], system)
        assert tokenizer.decode(tokens.ids[0][tokens.subset("instruction")[0]]) == "hi"


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{{ m['content'][0]['text'] }}!{% endif %}\n{% endfor %}>",
        '{{ messages[-1][\'content\'] }} of {"type": "text"}>',
    ],
    ids=["reads both", "writes about types itself"],
)
def test_text_stays_text_where_it_is_read(make_tokenizer, text):
    tokenizer = make_tokenizer(text)
    assert ChatTemplate(tokenizer).render("hi") == hugging_faces(tokenizer, "hi")


def test_the_system_prompt_may_be_typed_where_the_users_words_are_not(make_tokenizer):
    text = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'][0]['text'] }}"
        "{% else %}{{ m['content'] }}{% endif %}|{% endfor %}>"
    )
    assert ChatTemplate(make_tokenizer(text)).render("hi", "Be kind.") == "Be kind.|hi|>"


def test_a_template_that_fails(make_tokenizer):
    with pytest.raises(ModelError, match=r"cannot render a prompt \(roles must alternate\)"):
        ChatTemplate(make_tokenizer("{{ raise_exception('roles must alternate') }}")).render("hi")
    chat = ChatTemplate(make_tokenizer("{{ raise_exception('no') }}"))
    assert chat.provenance["rendered"] is None
    with pytest.raises(ModelError, match="cannot render a prompt"):
        chat.render("hi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TURNS + "{{ x", r"is no Jinja template: line \d: unexpected end of template"),
        ("{% if %}" + TURNS, "is no Jinja template: line 1: Expected an expression"),
        ("{{ messages | nosuch }}", "is no Jinja template: line 1: No filter named 'nosuch'"),
    ],
)
def test_text_that_is_no_jinja_is_refused_before_weights_are_read(
    make_tokenizer, tmp_path, text, message
):
    for own, template, origin in (
        (text, None, "this model's chat template"),
        (TURNS, text, "the chat template that was given"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_model(Unread(), tokenizer=make_tokenizer(own), chat_template=template)
        assert origin in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "own.jinja").write_text(text)
    with pytest.raises(ModelError, match=rf"the chat template '.*own\.jinja' {message}"):
        load_model("pocket", chat_template=tmp_path / "own.jinja")


class Unread(torch.nn.Module):
    """A network whose weights nobody may ask for."""

    config = None


def test_a_given_template_that_renders_no_prompt_is_refused_when_loading(
    make_network, make_tokenizer
):
    network, tokenizer = make_network("llama"), make_tokenizer(TURNS + REPLY)
    for text, message in (
        ("{{ 'x' }}", "does not show the user's words"),
        ("{{ raise_exception('no') }}", r"cannot render a prompt \(no\)"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(network, tokenizer=tokenizer, chat_template=text)


def test_the_day_is_fixed_for_a_template(make_tokenizer, on_day):
    on_day(2026, 1, 31)
    tokenizer = make_tokenizer(DATED)
    chat = ChatTemplate(tokenizer)
    first = chat.tokens(["hi"])
    assert chat.render("hi") == hugging_faces(tokenizer, "hi")
    on_day(2031, 12, 5)
    assert "31 Jan 2026, %." in chat.render("hi")
    assert torch.equal(chat.tokens(["hi"]).ids, first.ids)
    later, repeated = ChatTemplate(tokenizer), ChatTemplate(tokenizer, date="2026-01-31")
    assert later.render("hi") == hugging_faces(tokenizer, "hi")
    assert (chat.date, later.date) == ("2026-01-31", "2031-12-05")
    assert later.fingerprint != chat.fingerprint
    assert later.provenance["rendered"] != chat.provenance["rendered"]
    assert repeated.provenance == chat.provenance


@pytest.mark.parametrize(
    "text",
    [
        "\n  {% if true %}{{ strftime_now('%-d.%m.%y %H:%M %A %% %j') }}{% endif %}\n" + DATED,
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
        "{% macro told(d) %}{{ d }} {{ strftime_now('%B') }}{% endmacro %}{{ told(day) }}" + TURNS,
    ],
    ids=["white space around blocks", "asked for in a macro"],
)
def test_a_fixed_clock_changes_nothing_else(make_tokenizer, text, monkeypatch):
    class Midnight(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 3, 4)

    monkeypatch.setattr(hugging_face, "datetime", Midnight)
    tokenizer = make_tokenizer(text)
    assert Rendering(tokenizer).render("hi") == hugging_faces(tokenizer, "hi")


@pytest.mark.parametrize(
    "text", [TURNS + REPLY, "{% if false %}{{ strftime_now('%Y') }}{% endif %}" + TURNS + REPLY]
)
def test_a_template_that_writes_no_day_has_none_and_takes_none(make_tokenizer, text):
    assert ChatTemplate(make_tokenizer(text)).date is None
    with pytest.raises(ModelError, match=r"date='2026-01-31' does nothing: .* writes no day"):
        ChatTemplate(make_tokenizer(text), date="2026-01-31")


def test_a_day_for_no_template_or_one_that_fails(make_tokenizer):
    with pytest.raises(ModelError, match=r"date='2026-01-31' does nothing: .* no chat template"):
        ChatTemplate(make_tokenizer(None), date="2026-01-31")
    with pytest.raises(ModelError, match=r"cannot render a prompt \(no\)"):
        ChatTemplate(make_tokenizer("{{ raise_exception('no') }}"), date="2026-01-31")


@pytest.mark.parametrize("date", ["yesterday", "", "20260131", "2026-W05-6", "2026-02-30"])
def test_a_day_that_is_none(make_tokenizer, date):
    with pytest.raises(ModelError, match=f"date must be a day such as 2026-01-31, found '{date}'"):
        ChatTemplate(make_tokenizer(DATED), date=date)


def test_activations_of_two_days_are_not_mixed(make_network, make_tokenizer):
    from workbench.activations import collect_activations

    network, tokenizer = make_network("llama"), make_tokenizer(DATED)
    acts = [
        collect_activations(load_model(network, tokenizer=tokenizer, date=date), ["hi", "no"])
        for date in ("2026-01-31", "2026-02-01")
    ]
    with pytest.raises(AxisError, match="different chat templates, settings of thinking or days"):
        mean_difference(*acts)
