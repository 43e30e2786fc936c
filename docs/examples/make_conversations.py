"""Write ``conversations.jsonl``: small conversations for the first steps with castore, and for its tests.

Every sentence was written for this project. The script makes the same bytes on every machine and Python version: what
looks chosen at random is chosen by a hash of the conversation's id.

    python docs/examples/make_conversations.py [OUTPUT]
"""

# ruff: noqa: E501  (the conversations are data, and read best with a text on a line)

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Row = dict[str, Any]

DEFAULT_OUTPUT = Path(__file__).with_name("conversations.jsonl")

# Single questions with their answers: (language, question, answer).
QUESTIONS: list[tuple[str, str, str]] = [
    (
        "en",
        "Why is the sky blue?",
        "Air scatters short wavelengths of sunlight much more than long ones, so blue light reaches your eyes from every direction while red light mostly passes straight through.",
    ),
    (
        "en",
        "What does a lighthouse keeper do all day?",
        "Historically: trim the wicks, wind the clockwork that turned the lens, clean the glass, log the weather, and stay awake. Today most lights are automatic and someone visits a few times a year.",
    ),
    (
        "en",
        "How do I stop onions from making me cry?",
        "Chill them for half an hour, use a sharp knife, and cut the root end last. Less of the irritating gas forms in the cold, and a sharp blade breaks fewer cells.",
    ),
    (
        "en",
        "Is a tomato a fruit?",
        "Botanically yes, it is a berry. In the kitchen it is treated as a vegetable because it is savoury.",
    ),
    ("en", "Give me three names for a grey cat.", "1. Ash\n2. Pebble\n3. Mrs. Fog"),
    (
        "en",
        "What is the difference between weather and climate?",
        "Weather is what the air does today; climate is what you may expect from thirty years of todays.",
    ),
    (
        "en",
        "How long should I boil an egg?",
        "From the moment the water boils again: 6 minutes for a soft yolk, 8 for a creamy one, 10 for a firm one. Then cool it under running water.",
    ),
    (
        "en",
        "Explain photosynthesis to a six-year-old.",
        "Plants eat sunshine! They drink water with their roots, breathe in air with their leaves, and mix the two with light to make sugar. What they do not need, they give back, and that is the air we breathe.",
    ),
    (
        "en",
        "Why do ships float although steel sinks?",
        "A ship is mostly air. It pushes away water that weighs as much as the whole ship, hull and cargo and air together, and that is enough to carry it.",
    ),
    (
        "en",
        "Who was the first person to walk on the Moon?",
        "Neil Armstrong, on 20 July 1969. Buzz Aldrin followed him about 19 minutes later.",
    ),
    (
        "en",
        "What's a good way to learn the piano as an adult?",
        "Little and often. Twenty minutes a day beats three hours on Sunday. Begin with a piece you love in an easy arrangement, play it slowly enough that you make no mistakes, and only then faster.",
    ),
    (
        "en",
        "Summarise the plot of a heist film in one sentence.",
        "A crew of specialists with one last job steals something impossible from someone unpleasant, and the plan that seemed to fail turns out to have been the plan.",
    ),
    ("en", "Is zero an even number?", "Yes. It is 2 × 0, and it sits between two odd numbers."),
    (
        "en",
        "What is a palindrome? Give two examples.",
        'A word or sentence that reads the same backwards: "level", and "Was it a car or a cat I saw?"',
    ),
    (
        "en",
        "How can I sleep better?",
        "Get up at the same time every day, also on weekends; keep the bedroom cool and dark; drink no coffee after lunch; and if you lie awake for twenty minutes, get up and read something dull.",
    ),
    (
        "en",
        "Write a haiku about a slow train.",
        "Fields lean past the glass\na heron does not look up\nnext stop: not for hours",
    ),
    ("en", "How many bits are in a byte?", "Eight."),
    (
        "en",
        "What should I pack for a weekend in the mountains?",
        "- a rain jacket, whatever the forecast says\n- a warm layer\n- water and something with nuts in it\n- a paper map\n- a torch\n- blister plasters",
    ),
    (
        "en",
        "Why do cats purr?",
        "Mostly from contentment, but also when they are hurt or afraid. The vibration seems to calm them, and it may even help bones to heal.",
    ),
    (
        "en",
        'Rewrite politely: "Send me the file now."',
        '"Could you send me the file when you have a moment? I would like to go on with it this afternoon."',
    ),
    (
        "en",
        'What does "idempotent" mean?',
        "Doing it twice has the same effect as doing it once. Pressing the button of a lift is idempotent; ringing a doorbell is not.",
    ),
    (
        "en",
        "How far away is the horizon?",
        "For eyes 1.7 m above the sea, a little under 5 km. The distance grows with the square root of the height: from a 50 m cliff you see about 25 km.",
    ),
    ("en", "Suggest a title for a talk about backups.", '"The Day After: What You Wish You Had Copied"'),
    (
        "en",
        'What is the plural of "octopus"?',
        '"Octopuses" is the plain English plural. "Octopodes" follows the Greek, and "octopi" follows a misunderstanding.',
    ),
    (
        "en",
        "Why does bread rise?",
        "Yeast eats sugars in the flour and breathes out carbon dioxide. Gluten, the stretchy protein network you make by kneading, traps the bubbles.",
    ),
    (
        "en",
        "Can you recommend a board game for two?",
        "Try one where you build rather than fight: laying tiles, routes or gardens. Games of thirty to forty minutes are good for a weekday evening, and the loser may choose the next one.",
    ),
    (
        "en",
        "What is a checksum good for?",
        "It tells you that something changed, cheaply. It does not tell you what changed, or who did it; for the latter you need a cryptographic hash and a signature.",
    ),
    (
        "en",
        'Translate "good night" into five languages.',
        "German: Gute Nacht. Spanish: Buenas noches. French: Bonne nuit. Italian: Buonanotte. Chinese: 晚安.",
    ),
    (
        "en",
        "Tell me a joke about databases.",
        'A query walks into a bar, goes up to two tables and asks: "May I join you?"',
    ),
    ("en", "What is the capital of Australia?", "Canberra. It was built as a compromise between Sydney and Melbourne."),
    (
        "de",
        "Warum ist der Himmel abends rot?",
        "Am Abend steht die Sonne tief, und ihr Licht legt einen langen Weg durch die Luft zurück. Die blauen Anteile werden unterwegs weggestreut, übrig bleiben Gelb und Rot.",
    ),
    (
        "de",
        "Wie kocht man Reis, ohne dass er klebt?",
        "Waschen, bis das Wasser klar bleibt, dann mit der anderthalbfachen Menge Wasser aufkochen, Deckel drauf, kleinste Stufe, zwölf Minuten. Danach zehn Minuten ruhen lassen und nicht umrühren.",
    ),
    (
        "de",
        "Was bedeutet das Sprichwort »Morgenstund hat Gold im Mund«?",
        "Wer früh aufsteht, schafft mehr. Ob es stimmt, hängt davon ab, wann man zu Bett gegangen ist.",
    ),
    ("de", "Nenne mir drei Flüsse, die in die Nordsee münden.", "Die Elbe, die Weser und der Rhein."),
    (
        "de",
        "Schreib mir eine kurze Absage für eine Einladung.",
        "Liebe Familie Größler,\n\nherzlichen Dank für die Einladung! Leider sind wir an dem Wochenende schon verreist. Wir wünschen euch ein schönes Fest und holen den Besuch bald nach.\n\nViele Grüße",
    ),
    ("de", "Ist ein Wal ein Fisch?", "Nein, Wale sind Säugetiere: Sie atmen Luft und säugen ihre Jungen."),
    ("de", "Wie viele Tage hat der Februar?", "28, in Schaltjahren 29."),
    (
        "de",
        "Was ist der Unterschied zwischen »das« und »dass«?",
        "»Das« lässt sich durch »dieses« oder »welches« ersetzen, »dass« nicht; es leitet einen Nebensatz ein: Ich weiß, dass das stimmt.",
    ),
    (
        "es",
        "¿Por qué el mar es salado?",
        "Los ríos arrastran sales de las rocas hasta el mar. El agua se evapora y vuelve como lluvia, pero la sal se queda; así se ha acumulado durante millones de años.",
    ),
    (
        "es",
        "¿Cómo se hace una tortilla de patatas?",
        "Fríe las patatas a fuego lento con cebolla, escúrrelas, mézclalas con los huevos batidos y cuaja todo en la sartén. Dale la vuelta con un plato y sin miedo.",
    ),
    ("es", "Dame un sinónimo de «rápido».", "Veloz."),
    (
        "es",
        "¿Cuántos continentes hay?",
        "Depende de a quién preguntes: entre cinco y siete. En muchos países de habla hispana se enseñan seis, con América como uno solo.",
    ),
    ("es", "Escribe una frase con todas las vocales.", "El murciélago dormía bajo el puente."),
    (
        "es",
        "¿Qué tiempo hace en Bilbao en otoño?",
        "Suave y lluvioso: unos 15 °C de media. Lleva paraguas, ¡y buen apetito!",
    ),
    ("es", "¿Para qué sirve la levadura?", "Para que la masa suba: produce gas y deja el pan esponjoso."),
    ("zh", "为什么天空是蓝色的？", "因为空气分子对短波长的蓝光散射得更强，所以从各个方向进入我们眼睛的蓝光最多。"),
    (
        "zh",
        "怎么煮米饭才好吃？",
        "先把米淘洗两遍，泡二十分钟，水和米的比例大约是一点二比一。煮好以后不要马上打开，再焖十分钟。",
    ),
    ("zh", "请用“虽然……但是……”造句。", "虽然外面下着大雨，但是他还是准时到了图书馆。"),
    ("zh", "一年有几个季节？", "四个：春、夏、秋、冬。🌱☀️🍂❄️"),
    ("zh", "推荐一个周末活动。", "可以去郊外骑自行车，带上水和水果；如果下雨，就在家里做一顿饺子。"),
    ("zh", "“你好”用德语怎么说？", "可以说“Hallo”，比较正式的场合说“Guten Tag”。"),
]

PREFIXES = ["", "", "", "Quick question: ", "Hi! ", "I keep wondering: ", "For a school quiz: "]

# Questions about code with their answers.
CODE: list[tuple[str, str]] = [
    (
        "Write a Python function that reverses a string.",
        "```python\ndef reverse(text: str) -> str:\n    return text[::-1]\n```\nSlicing with a step of -1 walks the string from its end.",
    ),
    (
        "How do I count lines in all .py files of a folder?",
        "```sh\nfind . -name '*.py' -print0 | xargs -0 cat | wc -l\n```\n`-print0` and `-0` keep names with spaces in one piece.",
    ),
    (
        "What is wrong here?\n\ndef add(item, items=[]):\n    items.append(item)\n    return items",
        "The default list is made once, when the function is defined, so all calls share it. Use `None` and make a new list inside:\n\n    def add(item, items=None):\n        items = [] if items is None else items\n        items.append(item)\n        return items",
    ),
    (
        "Fibonacci in Rust, please.",
        "```rust\nfn fibonacci(n: u32) -> u64 {\n    let (mut a, mut b) = (0, 1);\n    for _ in 0..n {\n        (a, b) = (b, a + b);\n    }\n    a\n}\n```",
    ),
    (
        "SQL: the three customers with the highest total of orders?",
        "```sql\nSELECT customer_id, SUM(total) AS spent\nFROM orders\nGROUP BY customer_id\nORDER BY spent DESC\nLIMIT 3;\n```",
    ),
    (
        "How do I merge two dictionaries in Python?",
        "Since Python 3.9: `merged = first | second`. Where both have a key, the right one wins.",
    ),
    (
        "Explain this regex: ^\\d{4}-\\d{2}-\\d{2}$",
        "It matches a date written like 2031-05-17: four digits, a hyphen, two digits, a hyphen, two digits, and nothing before or after. It does not check that the month exists.",
    ),
    (
        "In C, why does `if (x = 5)` compile?",
        "A single `=` assigns, and the value of an assignment is the assigned value. So the condition is 5, which is true. Most compilers warn if you ask them to: `-Wall`.",
    ),
    (
        "Read a JSON lines file in Python.",
        '```python\nimport json\n\nwith open("rows.jsonl", encoding="utf-8") as file:\n    rows = [json.loads(line) for line in file if line.strip()]\n```',
    ),
    (
        "How do I undo my last git commit but keep the changes?",
        "`git reset --soft HEAD~1`. The changes are then staged. Do not do it to a commit that others already have.",
    ),
    (
        "JavaScript: remove duplicates from an array.",
        "`const unique = [...new Set(values)];` It keeps the first of each, in order.",
    ),
    (
        "What does O(n log n) mean?",
        "The time grows a little faster than the input: ten times as many items take a bit more than ten times as long. Good sorting algorithms are like that.",
    ),
    (
        "Show me a context manager that times a block.",
        '```python\nimport time\nfrom contextlib import contextmanager\n\n@contextmanager\ndef timed(label):\n    start = time.perf_counter()\n    try:\n        yield\n    finally:\n        print(f"{label}: {time.perf_counter() - start:.3f} s")\n```',
    ),
    (
        "Why is 0.1 + 0.2 not 0.3?",
        "Binary fractions cannot hold 0.1 exactly, just as decimal ones cannot hold 1/3. The sum is 0.30000000000000004. Compare with `math.isclose`, or count in cents.",
    ),
    (
        "Write a Makefile with a target that runs the tests.",
        "```make\n.PHONY: test\ntest:\n\tpython -m pytest -q\n```\nThe line under the target begins with a tab, not with spaces.",
    ),
    (
        "HTML for a table with two columns?",
        "```html\n<table>\n  <tr><th>Fruit</th><th>Price</th></tr>\n  <tr><td>Apple</td><td>0,40 €</td></tr>\n  <tr><td>Pear</td><td>0,55 €</td></tr>\n</table>\n```",
    ),
    (
        "Is `is` the same as `==` in Python?",
        "No. `==` asks whether two values are equal, `is` whether they are one object. Use `is` for `None` and little else.",
    ),
    (
        "Convert Celsius to Fahrenheit in Go.",
        "```go\nfunc fahrenheit(celsius float64) float64 {\n\treturn celsius*9/5 + 32\n}\n```",
    ),
]

TRANSLATIONS: list[tuple[str, str, str, str]] = [
    ("Where is the station?", "Wo ist der Bahnhof?", "¿Dónde está la estación?", "车站在哪里？"),
    ("The bill, please.", "Die Rechnung, bitte.", "La cuenta, por favor.", "请结账。"),
    ("I lost my umbrella.", "Ich habe meinen Regenschirm verloren.", "He perdido mi paraguas.", "我的雨伞丢了。"),
    (
        "What time does the museum close?",
        "Wann schließt das Museum?",
        "¿A qué hora cierra el museo?",
        "博物馆几点关门？",
    ),
    (
        "Two coffees and a slice of cake.",
        "Zwei Kaffee und ein Stück Kuchen.",
        "Dos cafés y un trozo de tarta.",
        "两杯咖啡和一块蛋糕。",
    ),
    (
        "My daughter is seven years old.",
        "Meine Tochter ist sieben Jahre alt.",
        "Mi hija tiene siete años.",
        "我女儿七岁了。",
    ),
    ("It is raining again.", "Es regnet schon wieder.", "Está lloviendo otra vez.", "又下雨了。"),
    ("Can I pay by card?", "Kann ich mit Karte zahlen?", "¿Puedo pagar con tarjeta?", "可以刷卡吗？"),
    (
        "We are looking for a quiet room.",
        "Wir suchen ein ruhiges Zimmer.",
        "Buscamos una habitación tranquila.",
        "我们想要一间安静的房间。",
    ),
    (
        "The train is twenty minutes late.",
        "Der Zug hat zwanzig Minuten Verspätung.",
        "El tren lleva veinte minutos de retraso.",
        "火车晚点二十分钟。",
    ),
    ("Thank you for your help!", "Danke für Ihre Hilfe!", "¡Gracias por su ayuda!", "谢谢您的帮助！"),
    (
        "I would like to buy these shoes.",
        "Ich möchte diese Schuhe kaufen.",
        "Quisiera comprar estos zapatos.",
        "我想买这双鞋。",
    ),
]
LANGUAGES = ["German", "Spanish", "Chinese"]

# Longer talks: (system or None, alternating user and assistant turns).
TALKS: list[tuple[str | None, list[str]]] = [
    (
        "You are a patient bicycle mechanic.",
        [
            "My chain keeps slipping when I pedal hard.",
            "That is usually a worn chain on worn sprockets. How many kilometres have you ridden on it?",
            "Maybe 5,000?",
            "Then measure it: over 12 links it should be 304.8 mm. If it is more than 306 mm, replace the chain, and probably the cassette with it.",
            "It is 307.",
            "Both, then. A new chain on the old cassette would slip even more. Note how many links the old one has before you throw it away.",
            "And the front chainrings?",
            "Look at the teeth. If they are pointed like shark fins, replace them too; if they still look like little hills, keep them.",
        ],
    ),
    (
        "You are a gardener who answers briefly.",
        [
            "When do I plant garlic?",
            "In October, 5 cm deep, tip upwards.",
            "And when do I harvest?",
            "In July, when the lower leaves turn yellow.",
            "Do I water it in winter?",
            "No. 🌧️ does that.",
            "Slugs?",
            "They do not like garlic. Enjoy it while it lasts.",
        ],
    ),
    (
        None,
        [
            "I want to bake a cake but I have no eggs.",
            "No problem. For each egg take a mashed banana, or three spoons of apple sauce, or a spoon of ground flax with three of water.",
            "Which one tastes least?",
            "Flax. Banana always tastes of banana.",
            "Good, flax it is. How long does it have to stand?",
            "About ten minutes, until it is like jelly.",
        ],
    ),
    (
        "You are a librarian.",
        [
            "I am looking for a book. It was blue.",
            "That narrows it down to a few thousand. Do you remember what happened in it?",
            "Someone was alone on an island, with a goat.",
            "There is a very famous one with a goat, and a parrot, and footprints in the sand.",
            "Footprints! Yes!",
            'Then it is "Robinson Crusoe". Shelf F-DEF, second floor. The blue edition is on loan, the green one is here.',
            "Green will do.",
            "It is the same story, I promise.",
        ],
    ),
    (
        "Du bist ein freundlicher Stadtführer in Lübeck.",
        [
            "Was sollte ich an einem Tag unbedingt sehen?",
            "Das Holstentor, die Marienkirche mit den zerbrochenen Glocken und am Nachmittag die Gänge und Höfe westlich der Königstraße.",
            "Und wo bekomme ich gutes Marzipan?",
            "Gegenüber dem Rathaus. Nehmen Sie das ohne Schokolade, daran erkennt man die Qualität.",
            "Lohnt sich die Fahrt ans Meer?",
            "Ja: Mit dem Zug sind es gut zwanzig Minuten bis zum Strand. Abends ist das Licht dort am schönsten.",
        ],
    ),
    (
        None,
        [
            "Necesito un regalo para mi abuela.",
            "¿Qué le gusta hacer?",
            "Leer y cuidar sus plantas.",
            "Entonces, una lámpara de lectura o un libro sobre orquídeas.",
            "Ya tiene muchos libros.",
            "Pues una orquídea de verdad, con una tarjeta escrita a mano. Eso no falla.",
        ],
    ),
    (
        "你是一位耐心的数学老师。",
        [
            "老师，什么是质数？",
            "大于1，并且只能被1和它自己整除的数，叫做质数。",
            "那1是质数吗？",
            "不是。按照定义，质数要有两个不同的因数，而1只有一个。",
            "2呢？",
            "2是质数，而且是唯一的偶数质数。",
            "明白了！",
            "很好。那你能写出20以内的所有质数吗？",
            "2、3、5、7、11、13、17、19。",
            "完全正确！👏",
        ],
    ),
    (
        "You are a terse Unix expert.",
        [
            "disk full",
            "`du -xh / | sort -h | tail -20`",
            "it's /var/log",
            "`journalctl --vacuum-size=200M`",
            "thanks, 14 GB free now",
            "Set `SystemMaxUse=200M` in journald.conf, or we shall meet again.",
        ],
    ),
    (
        None,
        [
            "Let's play a game. I think of an animal, you guess.",
            "Happy to! Does it live on land?",
            "Yes.",
            "Is it larger than a dog?",
            "Yes.",
            "Does it eat meat?",
            "No.",
            "Does it have a long neck?",
            "How did you know?!",
            "A giraffe, then. People who begin a guessing game like surprising animals, and giraffes surprise everyone. 🦒",
        ],
    ),
    (
        "You are the narrator of a text adventure. Keep each reply under 60 words.",
        [
            "I open the door.",
            "The hinges complain. Behind the door lies a cellar that smells of apples. A lamp hangs from a beam, unlit. Something small moves behind the barrels.",
            "I light the lamp.",
            "The flame catches. The small thing is a hedgehog, and it is guarding a brass key as if it were an egg.",
            "I offer it an apple.",
            "The hedgehog considers you, then the apple, then the key. It chooses the apple. The key is yours.",
            "I take the key and leave.",
            "You climb the stairs. Outside it has begun to snow, and someone has left footprints that lead up to your door and stop there.",
        ],
    ),
    (
        None,
        [
            'Can you check my sentence? "He don\'t knows where is the key."',
            '"He doesn\'t know where the key is." After "doesn\'t" comes the plain verb, and in an indirect question the verb goes to the end.',
            'And: "She asked me what do I want."',
            '"She asked me what I wanted." No "do" in an indirect question, and the past pulls the second verb along.',
        ],
    ),
    (
        "You are a nutritionist. Do not give medical advice.",
        [
            "Is breakfast really the most important meal?",
            "It is important to those who are hungry in the morning. Over a whole day, what you eat matters more than when.",
            "So I can skip it?",
            "If you feel well and do not empty the biscuit tin at eleven, yes.",
            "About that tin…",
            "Then try a small breakfast with protein: yoghurt, an egg, or beans on toast.",
        ],
    ),
]

NAMES = ["Amara", "Björn", "Chen", "Dolores", "Emeka", "Fatima", "Greta", "Hiro", "Inés", "Jakub", "Kavya", "Luís"]
THINGS = ["apples", "stamps", "marbles", "postcards", "tulips", "notebooks", "walnuts", "candles"]
PLACES = ["Lisbon", "Kiel", "Oaxaca", "Tromsø", "Chengdu", "Porto", "Görlitz", "Valparaíso"]
SKIES = ["clear", "light rain", "fog", "strong wind", "snow showers", "thunderstorms"]
TASTES = ["short and friendly", "for a child", "formal", "as one sentence"]

STORY = [
    "The harbour of {place} was quiet when {name} arrived with a suitcase full of {thing}.",
    "Nobody had told the customs officer that {thing} could be carried in such numbers, and he counted them twice.",
    '"There are {number}," he said at last, "and the form has room for {small}."',
    "{name} asked for a second form.",
    "There was no second form, but there was a drawer with old menus, and the backs of menus are blank.",
    "So they sat down together and wrote, column by column, while the tide came in under the pier.",
    "At noon {other} brought coffee and asked why anybody would need {number} {thing} in {place}.",
    '"Because in the next town they have none," said {name}, "and on Friday there is a wedding."',
    "The officer stamped the menus, one after another, with the seriousness that the occasion asked for.",
    "In the evening the bus left with the suitcase on its roof, and the radio said that there would be {sky} along the coast.",
    "{other} kept one of the {thing}, which nobody had counted, on the window sill for many years.",
]

TOOLS: dict[str, list[Row]] = {
    "weather": [
        {
            "name": "get_forecast",
            "description": "Forecast for a place and day",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "day": {"type": "string", "enum": ["today", "tomorrow"]}},
                "required": ["place"],
            },
        }
    ],
    "library": [
        {
            "name": "find_book",
            "description": "Look for a book by its title",
            "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        },
        {
            "name": "reserve_book",
            "description": "Reserve a book",
            "parameters": {
                "type": "object",
                "properties": {"shelf": {"type": "string"}, "card": {"type": "integer"}},
                "required": ["shelf", "card"],
            },
        },
    ],
    "trains": [
        {
            "name": "next_train",
            "description": "Next departure between two places",
            "parameters": {
                "type": "object",
                "properties": {"origin": {"type": "string"}, "destination": {"type": "string"}},
                "required": ["origin", "destination"],
            },
        }
    ],
}
BOOKS = [
    "The Salt Road",
    "Nine Winters",
    "Der Leuchtturm am Ende der Straße",
    "El jardín de arena",
    "A Field Guide to Clouds",
]


def number(low: int, high: int, *salt: object) -> int:
    """An integer in ``[low, high]`` that depends on the salt alone."""
    text = "/".join(map(str, salt))
    return low + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (high - low + 1)


def pick(options: Sequence[T], *salt: object) -> T:
    """One of the options, by the salt alone."""
    return options[number(0, len(options) - 1, *salt)]


def turn(role: str, content: str | None) -> Row:
    return {"role": role, "content": content}


def tool_turn(role: str, content: str | None, functions: str | None = None, calls: str | None = None) -> Row:
    """A turn with the two columns of tool use, null where they are not used."""
    return {"role": role, "content": content, "functions": functions, "function_calls": calls}


def row(name: str, messages: list[Row]) -> Row:
    return {"id": name, "messages": messages}


def questions() -> Iterator[Row]:
    for at, (language, question, answer) in enumerate(QUESTIONS):
        name = f"question-{language}-{at:03d}"
        prefix = pick(PREFIXES, name) if language == "en" else ""
        yield row(name, [turn("user", prefix + question), turn("assistant", answer)])
    for at, (question, answer) in enumerate(CODE):
        yield row(f"code-{at:03d}", [turn("user", question), turn("assistant", answer)])


def follow_ups() -> Iterator[Row]:
    """Two questions in one conversation, under a system turn."""
    for at in range(30):
        name = f"follow-up-{at:03d}"
        messages = [turn("system", f"Answer {pick(TASTES, name, 'taste')}.")]
        first = number(0, len(QUESTIONS) - 1, name)
        for which in (first, (first + 1 + at) % len(QUESTIONS)):
            messages += [turn("user", QUESTIONS[which][1]), turn("assistant", QUESTIONS[which][2])]
        yield row(name, messages)


def sums() -> Iterator[Row]:
    for at in range(48):
        name = f"sum-{at:03d}"
        who, other = pick(NAMES, name, "who"), pick(NAMES, name, "other")
        thing = pick(THINGS, name)
        a, b, c = number(3, 90, name, "a"), number(2, 40, name, "b"), number(2, 9, name, "c")
        texts = [
            (f"{who} has {a} {thing} and finds {b} more. Then everything is shared equally among {c} people. How many does each get, and how many are left over?",
             f"{a} + {b} = {a + b}. {a + b} divided by {c} is {(a + b) // c}, remainder {(a + b) % c}.\n\nEach gets {(a + b) // c}, and {(a + b) % c} are left over."),
            (f"A box holds {b} {thing}. {who} orders {c} boxes and already has {a}. How many {thing} are there in the end?",
             f"{c} boxes hold {c} * {b} = {c * b}. Together with the {a} that are there: {c * b} + {a} = {c * b + a}.\n#### {c * b + a}"),
            (f"{who} walks {c} km every day, {other} {c + 2} km. How much farther has {other} walked after {b} days?",
             f"The difference is 2 km a day, so after {b} days it is 2 * {b} = {2 * b} km."),
            (f"{who} kauft {c} Hefte zu je {b} Cent und bezahlt mit {c * b // 100 + 1} Euro. Wie viel Rückgeld gibt es?",
             f"{c} · {b} Cent = {c * b} Cent. {(c * b // 100 + 1) * 100} − {c * b} = {(c * b // 100 + 1) * 100 - c * b} Cent."),
        ]  # fmt: skip
        question, answer = texts[at % len(texts)]
        yield row(name, [turn("user", question), turn("assistant", answer)])


def translations() -> Iterator[Row]:
    for at in range(30):
        name = f"translation-{at:03d}"
        language = at % len(LANGUAGES)
        messages = [turn("system", f"Translate what the user says into {LANGUAGES[language]}. Say nothing else.")]
        for step in range(number(1, 4, name)):
            phrase = TRANSLATIONS[(at * 5 + step * 7) % len(TRANSLATIONS)]
            messages += [turn("user", phrase[0]), turn("assistant", phrase[1 + language])]
        yield row(name, messages)


def talks() -> Iterator[Row]:
    """Each longer talk, whole and broken off after some of its turns."""
    for at, (system, texts) in enumerate(TALKS):
        for cut in range(2):
            count = len(texts) if not cut else 2 * number(1, len(texts) // 2, "talk", at)
            turns = [turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts[:count])]
            head = [turn("system", system)] if system else []
            yield row(f"talk-{at:03d}-{cut}", head + turns)


def stories() -> Iterator[Row]:
    for at in range(24):
        name = f"story-{at:03d}"
        words = {
            "place": pick(PLACES, name, "place"), "name": pick(NAMES, name, "name"), "other": pick(NAMES, name, "other"),
            "thing": pick(THINGS, name, "thing"), "sky": pick(SKIES, name, "sky"),
            "number": number(40, 4000, name), "small": number(2, 30, name, "small"),
        }  # fmt: skip
        lines = [line.format(**words) for line in STORY[: number(4, len(STORY), name, "length")]]
        text = " ".join(lines)
        if at % 2:
            messages = [
                turn("user", f"Tell me a story about {words['name']} and {words['number']} {words['thing']}."),
                turn("assistant", "\n\n".join(lines)),
            ]
        else:
            messages = [
                turn("user", f"{text}\n\nWho arrived, where, and with how many {words['thing']}?"),
                turn(
                    "assistant", f"{words['name']} arrived in {words['place']} with {words['number']} {words['thing']}."
                ),
            ]
        yield row(name, messages)


def tables() -> Iterator[Row]:
    for at in range(16):
        name = f"table-{at:03d}"
        things = [THINGS[(at + step * 3) % len(THINGS)] for step in range(number(2, 5, name))]
        counts = [number(1, 500, name, thing) for thing in things]
        listed = ", ".join(f"{count} {thing}" for count, thing in zip(counts, things, strict=True))
        table = "\n".join(f"| {thing} | {count} |" for thing, count in zip(things, counts, strict=True))
        data = json.dumps(dict(zip(things, counts, strict=True)), indent=2)
        as_table = [
            turn("user", f"Make a table: {listed}."),
            turn("assistant", f"| what | how many |\n|---|---:|\n{table}"),
        ]
        as_json = [turn("user", "Now as JSON, please. 🙏"), turn("assistant", f"```json\n{data}\n```")]
        yield row(name, as_table + (as_json if at % 2 else []))


def weather_row(name: str) -> Row:
    place, sky = pick(PLACES, name, "place"), pick(SKIES, name, "sky")
    high = number(-8, 33, name)
    answer = json.dumps({"place": place, "sky": sky, "high": high, "unit": "°C"}, ensure_ascii=False)
    return row(name, [
        tool_turn("system", "You report the weather.", functions=json.dumps(TOOLS["weather"])),
        tool_turn("user", f"What will it be like in {place} tomorrow?"),
        tool_turn("assistant", None, calls=f"get_forecast(place=\"{place}\", day=\"tomorrow\")"),
        tool_turn("environment", answer),
        tool_turn("assistant", f"In {place}: {sky}, with a high of {high} °C."),
        tool_turn("user", "Thanks!"),
        tool_turn("assistant", "You are welcome. ☂️" if "rain" in sky else "You are welcome."),
    ])  # fmt: skip


def library_row(name: str) -> Row:
    title = pick(BOOKS, name)
    shelf, card = f"{pick('ABCDEF', name, 'shelf')}-{number(1, 99, name)}", number(10_000, 99_999, name, "card")
    found = json.dumps([{"title": title, "shelf": shelf, "available": True}], ensure_ascii=False)
    return row(name, [
        tool_turn("system", "You help the readers of a town library.", functions=json.dumps(TOOLS["library"])),
        tool_turn("user", f"Do you have \"{title}\"?"),
        tool_turn("assistant", None, calls=f"find_book(title=\"{title}\")"),
        tool_turn("environment", found),
        tool_turn("assistant", f"Yes, on shelf {shelf}. Shall I reserve it for you?"),
        tool_turn("user", f"Yes please, my card is {card}."),
        tool_turn("assistant", "One moment.", calls=f"reserve_book(shelf=\"{shelf}\", card={card})"),
        tool_turn("environment", "{\"reserved\": true, \"until\": \"Saturday\"}"),
        tool_turn("assistant", "It is reserved until Saturday."),
    ])  # fmt: skip


def trains_row(name: str) -> Row:
    origin = pick(PLACES, name, "origin")
    destination = PLACES[(PLACES.index(origin) + number(1, len(PLACES) - 1, name)) % len(PLACES)]
    time = f"{number(5, 23, name, 'hour'):02d}:{number(0, 59, name, 'minute'):02d}"
    return row(name, [
        tool_turn("system", "You answer questions about trains.", functions=json.dumps(TOOLS["trains"])),
        tool_turn("user", f"When is the next train to {destination}?"),
        tool_turn("assistant", "From where would you like to travel?"),
        tool_turn("user", f"From {origin}."),
        tool_turn("assistant", None, calls=f"next_train(origin=\"{origin}\", destination=\"{destination}\")"),
        tool_turn("environment", f"[{{\"departure\": \"{time}\", \"platform\": {number(1, 12, name, 'platform')}}}]"),
        tool_turn("assistant", f"The next train from {origin} to {destination} leaves at {time}."),
    ])  # fmt: skip


def tool_use() -> Iterator[Row]:
    makers = (weather_row, library_row, trains_row)
    for at in range(45):
        yield makers[at % len(makers)](f"tools-{at:03d}")


def column_tools() -> Iterator[Row]:
    """Rows that name their tools in a column of the row, as a JSON string, in place of a system turn."""
    for at in range(8):
        name = f"column-tools-{at:03d}"
        place = pick(PLACES, name)
        yield {
            "id": name,
            "messages": [
                tool_turn("user", f"Is it raining in {place}?"),
                tool_turn("assistant", None, calls=f"get_forecast(place=\"{place}\")"),
                tool_turn("environment", json.dumps({"place": place, "sky": pick(SKIES, name, "sky")}, ensure_ascii=False)),
                tool_turn("assistant", f"The forecast for {place} says: {pick(SKIES, name, 'sky')}."),
            ],
            "tools": json.dumps(TOOLS["weather"]),
        }  # fmt: skip


def unanswered() -> Iterator[Row]:
    """Rows with nothing to train on: a run drops them and says so."""
    yield row("unanswered-000", [turn("user", "Hello? Is anybody there?")])
    yield row("unanswered-001", [turn("system", "You are a helpful assistant."), turn("user", "Ist jemand da?")])
    yield row("unanswered-002", [turn("system", "This conversation was interrupted before the first answer.")])


def conversations() -> list[Row]:
    """All rows, in an order that mixes the kinds."""
    kinds = (
        questions, follow_ups, sums, translations, talks, stories, tables, tool_use, column_tools, unanswered,
    )  # fmt: skip
    rows = [row for kind in kinds for row in kind()]
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())


def encoded() -> bytes:
    """The file: one row a line, UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in conversations()).encode()


def main(arguments: Sequence[str]) -> None:
    output = Path(arguments[0]) if arguments else DEFAULT_OUTPUT
    output.write_bytes(encoded())
    print(f"{output}: {len(conversations())} conversations")


if __name__ == "__main__":
    main(sys.argv[1:])
