import json
import random
from pathlib import Path

import pytest

from scripts import corpus
from scripts.corpus import Draw, Home, Template, read_home, read_intents, readings, sentences, templates

SCRIPTS = Path(corpus.__file__).parent


@pytest.fixture(scope="module")
def home() -> Home:
    return read_home(SCRIPTS / "home.yaml")


@pytest.fixture(scope="module")
def home_templates(home: Home) -> list[Template]:
    return list(templates(read_intents(home)))


def test_templates_are_the_lines_that_people_wrote(home_templates: list[Template]) -> None:
    assert len({t.id for t in home_templates}) == len(home_templates) == 809
    cancel = [t.text for t in home_templates if t.intent == "HassCancelTimer"]
    assert cancel[:2] == ["<timer_cancel> [the|my] timer in [<the>] {area}", "<timer_cancel> [the|my] {area} timer"]


def test_equal_lines_of_one_intent_are_one_template(home_templates: list[Template]) -> None:
    """Covers and valves are closed in the same words."""
    [close] = [t for t in home_templates if t.intent == "HassTurnOff" and t.text == "<close> [<the>] {name}"]
    assert [b.requires_context["domain"] for b in close.blocks] == [["cover"], ["valve"]]


def test_sentences_have_the_one_reading_they_were_made_from(home: Home, home_templates: list[Template]) -> None:
    intents = read_intents(home)
    template = next(t for t in home_templates if t.text.startswith("decrease [<the>] {area} volume"))
    made = dict(sentences(template, 5, 17, intents, home))
    assert len(made) == 5
    for text, answer in made.items():
        assert text.startswith("decrease ")
        assert answer["intent"] == "HassSetVolumeRelative"
        assert set(answer) in ({"area", "intent", "volume_step"},)
        assert f"by {-answer['volume_step']}" in text or f" {-answer['volume_step']}" in text
        assert readings(text, intents) == [answer]
    assert dict(sentences(template, 5, 17, intents, home)) == made
    assert dict(sentences(template, 5, 18, intents, home)) != made


def test_a_sentence_with_two_readings_is_recognised_as_such(home: Home) -> None:
    """A text that means two things would teach neither: `sentences` keeps a text when its one reading is its own."""
    intents = read_intents(home)
    assert readings("turn on the tv", intents) == [{"intent": "HassTurnOn", "name": "tv"}]
    assert readings("sing me a song", intents) == []
    intents = read_intents(home)
    intents.intents["HassTurnOff"].data[0].sentence_texts.append("turn on [<the>] {name}")
    assert [r["intent"] for r in readings("turn on the tv", intents)] == ["HassTurnOff", "HassTurnOn"]


def test_sentences_that_nobody_says_or_that_hide_their_intent_are_left_out(
    home: Home, home_templates: list[Template]
) -> None:
    intents = read_intents(home)
    state = next(t for t in home_templates if t.text == "<which> <light> <is> {on_off_states:state}")
    texts = [text for text, _ in sentences(state, 40, 17, intents, home)]
    assert len(texts) == 40
    assert not [t for t in texts if "the on" in t or "my off" in t or "our on" in t]
    volume = next(t for t in home_templates if t.text.startswith("turn [<the>] {area} [volume] (up|down) to"))
    assert all("volume" in text for text, _ in sentences(volume, 10, 17, intents, home))


def test_the_area_of_the_speaker_is_no_slot(home: Home) -> None:
    assert readings("turn on the lights in here", read_intents(home)) == [{"domain": "light", "intent": "HassTurnOn"}]


def test_a_walk_uses_only_the_stream_that_python_pins(home: Home, home_templates: list[Template]) -> None:
    """The first value of seed 0 is pinned by Python: 0.8444218515250481."""
    draw = Draw(random.Random(0), read_intents(home), home, home_templates[0].blocks[0])
    assert draw.pick(range(100)) == 84


def test_rows_are_compact_json_intent_first_with_the_system_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "INTENTS", ("HassGetWeather", "HassMediaNext"))
    rows = list(corpus.rows(17, SCRIPTS / "home.yaml"))
    assert {r["label"] for r in rows} == {"HassGetWeather", "HassMediaNext"}
    for row in rows:
        system, user, assistant = row["messages"]
        assert (system["role"], user["role"], assistant["role"]) == ("system", "user", "assistant")
        answer = json.loads(assistant["content"])
        assert assistant["content"] == json.dumps(answer, separators=(",", ":"))
        assert list(answer) == ["intent", *sorted(set(answer) - {"intent"})]
        assert answer["intent"] == row["label"] == row["template"].split(".")[0]
    assert len({r["messages"][1]["content"] for r in rows}) == len(rows)


def test_other_package_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PINS", {"hassil": "3.0.0"})
    with pytest.raises(
        SystemExit, match=r"package hassil: 3\.12\.1; expected 3\.0\.0\. Next: pip install hassil==3\.0\.0"
    ):
        corpus.check_pins()
