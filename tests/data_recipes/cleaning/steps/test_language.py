"""Telling languages: a planted set, mixed texts, and the same answers as py3langid."""

import pyarrow as pa
import pytest

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.language import Language, LanguageSettings, _by_model, spread_pieces
from data_recipes.errors import DataError

# Article 1 of the Universal Declaration of Human Rights.
TEXTS = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
    "and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і "
    "повинні діяти у відношенні один до одного в дусі братерства.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
}


def told(texts, **settings):
    step = Language(LanguageSettings(**settings))
    found = step.signals(Batch("s", ["f"] * len(texts), texts, {}))
    return found, step.reasons("s", pa.table(found, schema=step.schema()))


def test_languages_are_told():
    found, _ = told(list(TEXTS.values()))
    assert found["language"] == list(TEXTS)
    assert min(found["language_share"]) == 1


def test_a_text_of_two_languages_has_the_share_of_the_larger():
    mixed = "\n".join([TEXTS["en"]] * 6 + [TEXTS["zh"]] * 7)
    found, reasons = told([mixed, TEXTS["en"], TEXTS["de"], "1 2 3", ""], languages=("en", "zh"))
    assert 0.4 < found["language_share"][0] < 0.65
    assert reasons == ["less than 65% in one language", None, "not in en or zh", "not in en or zh", "not in en or zh"]
    assert found["language"][3:] == ["und", "und"]


def test_compiled_code_gives_the_answers_of_py3langid():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    theirs = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    pieces = [piece for text in TEXTS.values() for piece in spread_pieces(text, 4, 30)] + ["ALL CAPITALS", "e\u0301te"]
    pieces = [piece for piece in pieces if len(piece) > 5]  # of less it may know nothing, and py3langid guesses
    assert _by_model(pieces) == [theirs.classify(piece)[0] for piece in pieces]


@pytest.mark.parametrize("length", [0, 1, 199, 1000, 1001, 12345])
def test_pieces_are_spread_over_the_text(length):
    text = "".join(chr(33 + n % 90) for n in range(length))
    pieces = spread_pieces(text, 5, 200)
    assert all(piece in text and 0 < len(piece) <= 200 for piece in pieces)
    assert len(pieces) == min(5, -(-length // 200))
    assert not pieces or (text.startswith(pieces[0]) and text.endswith(pieces[-1]))


def test_a_language_that_is_never_found_is_refused_before_it_drops_everything():
    with pytest.raises(DataError, match="no language 'jp'; expected ISO 639-1 codes"):
        Language(LanguageSettings(languages=("en", "jp"))).inputs()
    assert Language(LanguageSettings(languages=("en", "ja", "zh"))).inputs()["py3langid"]
