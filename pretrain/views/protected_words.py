"""Words that turn or scale what a text feels: without "not" a verdict flips.

Negators and intensifiers of the languages that the public triples and sentiment sets are in. In
Chinese and Japanese they are characters or short runs of them.
"""

from collections.abc import Iterator, Mapping

NEGATORS: Mapping[str, str] = {
    "en": "no not none never nothing nobody nowhere neither nor cannot without hardly barely "
    "scarcely n't don't doesn't didn't won't wouldn't can't couldn't shouldn't isn't aren't wasn't "
    "weren't haven't hasn't hadn't ain't mustn't needn't dont doesnt didnt wont wouldnt cant "
    "couldnt shouldnt isnt arent wasnt werent havent hasnt hadnt aint",
    "de": "nicht nichts kein keine keinen keinem keiner keines nie niemals niemand nirgends "
    "nirgendwo weder noch ohne kaum nein",
    "fr": "ne n' pas non jamais rien aucun aucune personne ni sans guère nul nulle",
    "es": "no nunca jamás nada nadie ninguno ninguna ningún ni sin tampoco apenas",
    "ca": "no mai res ningú cap ni sense tampoc gens gaire",
    "pt": "não nunca jamais nada ninguém nenhum nenhuma nem sem tampouco",
    "it": "non no mai niente nulla nessuno nessuna nessun né senza neanche nemmeno",
    "ro": "nu n-am n-are niciodată nimic nimeni niciun nicio nici fără",
    "nl": "niet niets geen nooit niemand nergens noch zonder nauwelijks nee",
    "da": "ikke intet ingen ingenting aldrig hverken uden næppe nej",
    "sv": "inte inget ingen inga ingenting aldrig varken utan knappt nej",
    "pl": "nie nic nikt nigdy żaden żadna żadne ani bez brak",
    "ru": "не нет ни никогда ничего ничто никто нигде нельзя без никакой никакая никакое",
    "be": "не няма ні ніколі нічога ніхто нідзе нельга без ніякі ніякая",
    "bg": "не няма нито никога нищо никой никъде без никакъв никаква недей",
    "el": "δεν δε μην μη όχι ποτέ τίποτα κανένας κανείς καμία κανένα ούτε χωρίς",
    "gd": "chan cha nach na gun chaoidh",
    "tr": "değil yok hiç hiçbir asla olmadan",
    "zh": "不 没 没有 無 无 非 未 别 勿 莫 從不 从不 不是 不要",
    "ja": "ない なかっ ません ず",
    "hi": "नहीं न मत बिना कभी",
}
"""Language -> words that deny, separated by spaces."""

INTENSIFIERS: Mapping[str, str] = {
    "en": "very really so too extremely incredibly absolutely totally completely utterly quite "
    "most more less least only just even such highly deeply",
    "de": "sehr wirklich so zu äußerst extrem absolut total völlig ganz ziemlich mehr weniger nur",
    "fr": "très vraiment si trop extrêmement absolument totalement tout plus moins assez",
    "es": "muy mucho realmente tan demasiado extremadamente absolutamente totalmente más menos",
    "ca": "molt realment tan massa extremadament absolutament totalment més menys",
    "pt": "muito muita realmente tão demais extremamente absolutamente totalmente mais menos",
    "it": "molto davvero così troppo estremamente assolutamente totalmente più meno",
    "ro": "foarte chiar așa prea extrem absolut total mai mult puțin",
    "nl": "heel erg zeer echt zo extreem absoluut totaal helemaal meer minder",
    "da": "meget virkelig så ekstremt absolut totalt helt mere mindre",
    "sv": "mycket verkligen så extremt absolut totalt helt mer mindre",
    "pl": "bardzo naprawdę zbyt niezwykle absolutnie całkowicie więcej mniej",
    "ru": "очень так слишком крайне совсем абсолютно действительно более менее больше меньше",
    "be": "вельмі так занадта зусім абсалютна сапраўды больш менш",
    "bg": "много наистина толкова твърде изключително абсолютно напълно повече по-малко",
    "el": "πολύ πραγματικά τόσο υπερβολικά εξαιρετικά απολύτως εντελώς πιο λιγότερο",
    "gd": "glè fìor ro",
    "tr": "çok gerçekten daha fazla",
    "zh": "很 太 最 更 极 極 非常 十分 特别 真 好",
    "ja": "とても すごく 非常",
    "hi": "बहुत बेहद ज़्यादा सबसे",
}
"""Language -> words that strengthen or weaken, separated by spaces."""


def affect_words() -> Iterator[str]:
    """All of them, as they are written and with a capital, with either apostrophe."""
    for table in (NEGATORS, INTENSIFIERS):
        for words in table.values():
            for word in words.split():
                yield from spellings(word)


def spellings(word: str) -> Iterator[str]:
    """The word as it is and with a capital, each with a straight and a curved apostrophe."""
    for form in dict.fromkeys((word, word[:1].upper() + word[1:])):
        yield form
        if "'" in form:
            yield form.replace("'", "’")  # noqa: RUF001 - the curved one is meant
