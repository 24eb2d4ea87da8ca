"""What none of the experts is for: small talk, opinions, general knowledge, advice, poems and other wishes.

These have no answer. They teach a router to say so, and are close to the experts' own questions where people's are:
other languages, other programs, "how many" of something that is not to be computed.
"""

from collections.abc import Sequence
from random import Random

from experts.data.tasks import Content, Task
from experts.data.wordings import bare, questions, requests

OTHER = "other"

NAMES = "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karl Laura Max Nina Oskar Paul Rosa Sara Tom Vera".split()
TIMES = "today|this morning|this evening|tonight|this week|right now|at the moment|these days".split("|")
TOPICS = """the sea|autumn|an old bridge|friendship|the moon|a lonely robot|summer rain|coffee|my grandmother|football|
    a lost key|the desert|modern art|jazz|winter mornings|space travel|garden flowers|a brave knight|chess|the wind|
    dragons|city life|a sleepy cat|mountains|the future|honest work|long train rides|classical music|old films|
    video games|social media|electric cars|healthy food|early mornings|working from home|space colonies""".split("|")
MOODS = "short|funny|sad|happy|long|quiet|strange|romantic|serious|cheerful|dark|simple".split("|")
PLACES = """Paris|London|Berlin|Rome|Tokyo|Cairo|Lima|Oslo|Madrid|Boston|Sydney|Vienna|Prague|Delhi|Lisbon|Athens|Seoul|
    Toronto|Dublin|Nairobi""".split("|")
COUNTRIES = """France|Japan|Brazil|Kenya|Norway|Peru|Egypt|Canada|India|Spain|Chile|Poland|Iceland|Greece|Mexico|
    Morocco|Vietnam|Ireland|Finland|Portugal|Cuba|Nepal|Turkey|Italy""".split("|")
ASPECTS = "capital|longest river|highest mountain|currency|national dish|oldest city|flag|president|history".split("|")
INVENTIONS = """telephone|steam engine|light bulb|bicycle|printing press|radio|telescope|computer|aeroplane|piano|
    camera|microscope|clock|compass|umbrella|zip""".split("|")
DEEDS = "invented|designed|improved|first sold|first built|named".split("|")
ANIMALS = "whales|bees|elephants|penguins|owls|spiders|dolphins|wolves|bats|horses|cats|snails|sharks|ants".split("|")
HABITS = "sleep|swim so well|live so long|talk to each other|find their way|eat in winter|raise their young".split("|")
LANGUAGES = "Spanish|Italian|Japanese|Latin|Greek|Russian|Dutch|Chinese|Swedish|Polish|Turkish|Korean".split("|")
PHRASES = """good morning|thank you|I love you|where is the station|see you tomorrow|happy birthday|good luck|
    how are you|the weather is nice|my name is Tom|one beer please|I am hungry""".split("|")
DISHES = """pancakes|lentil soup|apple pie|a risotto|fresh bread|a salad|vegetable curry|noodles|an omelette|pizza|
    tomato soup|dumplings|a cheesecake|fried rice|waffles|a stew|a cake|cookies|muffins|roast potatoes""".split("|")
GUESTS = "two|four|six|many|my family|my friends|the children|vegetarians|beginners".split("|")
WISHES = """book a table|order a taxi|play some music|set an alarm|call my mother|send a message to my boss|
    buy concert tickets|turn off the light|water the plants|book a flight|rent a car|find a dentist""".split("|")
WHENS = "today|tonight|tomorrow|on Sunday|before noon|after lunch|next week|at eight|this evening|by Friday".split("|")
PROBLEMS = """a headache|a bad cold|trouble sleeping|a broken heart|no ideas|too much stress|a noisy neighbour|
    nothing to wear|a flat tyre|a fear of heights|a boring job|an old car|no time|a bad memory|cold feet|
    a difficult boss|too many meetings|a long way home|an empty fridge""".split("|")


CRAFTS = """repair a bicycle|tie a tie|learn to swim|plant a tree|paint a wall|train a dog|clean a carpet|iron a shirt|
    fix a leaking tap|change a tyre|grow tomatoes|knit a scarf|build a kite|wash a jumper|fold a paper boat|
    sharpen a knife|hang a picture|ride a horse""".split("|")
WAYS = "at home|quickly|without tools|alone|for the first time|with children|safely|in winter|properly".split("|")
THINGS = "snow|the night|a rainbow|grass|the ocean|fire|thunder|ice|sand|blood|the desert|honey|salt|gold".split("|")
QUALITIES = "white|so dark|so loud|green|salty|so hot|cold|so dry|red|heavy|sweet|so quiet|dangerous".split("|")
PEOPLE = """Napoleon|Mozart|Cleopatra|Einstein|Gandhi|Darwin|Shakespeare|Marie Curie|Columbus|Beethoven|Picasso|Newton|
    Galileo|Goethe|Plato|Julius Caesar""".split("|")
MATTERS = "childhood|death|best work|family|youth|home town|greatest idea|last years|secret|rise to fame".split("|")
GOODS = """shoes|a birthday present|fresh fish|a used piano|a warm coat|old records|a tent|spare parts|paint|
    a good guitar|stamps|a bookshelf|glasses|garden tools""".split("|")
SHOPS = "near here|online|for a child|for less money|on a Sunday|for my mother|in a hurry|at this hour".split("|")


def _pick(rng: Random, *sets: Sequence[str]) -> Content:
    found = tuple(rng.choice(each).strip() for each in sets)
    return found if len(set(found)) == len(found) else _pick(rng, *sets)


def _task(name: str, wordings: tuple[str, ...], *sets: Sequence[str]) -> Task:
    """What is asked is one entry of each set, which the wordings call {a} and {b}."""
    return Task(
        name,
        OTHER,
        wordings,
        draw=lambda rng: _pick(rng, *sets),
        fields=lambda content: dict(zip("ab", content, strict=True)),
        answer=lambda content: "",
        check=lambda answer, text: text == answer,
    )


def _talk() -> tuple[Task, ...]:
    greeting = (
        *questions(
            "how are you {b}, {a}",
            "{a}, how are you doing {b}",
            "do you have time for {a} {b}",
            "what are you doing {b}, {a}",
            "are you [happy|tired|busy|bored] {b}, {a}",
            "did you sleep well, {a}, and how are you {b}",
        ),
        *bare(
            "[hi|hello|hey], [I am|my name is] {a} and I am [bored|happy|tired] {b}",
            "[good morning|good evening], [I am|my name is] {a}, nice to meet you {b}",
            "[thanks|thank you], {a}, you were a great help {b}",
            marks=("", ".", "!"),
        ),
    )
    opinion = (
        *questions(
            "[what do you think|how do you feel] about {a} {b}",
            "do you [like|enjoy|love] {a} {b}",
            "why do [people|so many people] [like|love|dislike] {a} {b}",
            "is {a} [a good thing|a bad idea|worth the trouble] {b}",
            "what is your [opinion|view] on {a} {b}",
        ),
        *requests("[tell me|share] your [opinion|thoughts] [on|about] {a} {b}"),
    )
    advice = (
        *questions(
            "what [should I|can I] do [about|against] {a} {b}",
            "how do I [get rid of|deal with|live with] {a} {b}",
            "what helps against {a} {b}",
        ),
        *bare("I have {a} {b}, [what now|any advice|can you help me]", marks=("?", "")),
        *requests("[help me|give me advice] with {a} {b}", "[cheer me up|comfort me], I have {a} {b}"),
    )
    return (
        _task("greeting", greeting, NAMES, TIMES),
        _task("opinion", opinion, TOPICS, TIMES),
        _task("advice", advice, PROBLEMS, TIMES),
    )


def _knowledge() -> tuple[Task, ...]:
    country = (
        *questions(
            "what is the {b} of {a}",
            "what do you know about the {b} of {a}",
            "can you explain the {b} of {a}",
            "why is the {b} of {a} so [famous|interesting|special]",
            "[where can I|how do I] [read|learn] [more|] about the {b} of {a}",
        ),
        *requests(
            "[tell me|explain] [something|more] about the {b} of {a}",
            "[describe|name] the {b} of {a}",
            "write an essay about the {b} of {a}",
        ),
    )
    invention = (
        *questions(
            "who {b} the {a}",
            "[when|where|why] was it that someone {b} the {a}",
            "do you know who {b} the {a}",
            "in [which|what] [year|country|century] was it that someone {b} the {a}",
            "which [person|company] {b} the {a}",
        ),
        *requests("[tell me|explain] [who|how someone] {b} the {a}", "name the person who {b} the {a}"),
    )
    animals = (
        *questions(
            "[how|why|when] do {a} {b}",
            "is it true that {a} {b}",
            "how many hours do {a} {b}",
        ),
        *requests("[tell me|explain|describe] [how|why|when] {a} {b}", "write a report about how {a} {b}"),
    )
    journey = (
        *questions(
            "how far is it from {a} to {b}",
            "how [do I|can I|would you] [get|travel] from {a} to {b}",
            "how many [people|trains] [go|travel] from {a} to {b}",
            "what is the weather like in {a} and in {b}",
            "is {a} [nicer|bigger|older] than {b}",
            "what does a [flight|train] from {a} to {b} cost",
        ),
        *requests("[plan a trip|book a flight|find a train|show me the way] from {a} to {b}", "compare {a} with {b}"),
    )
    return (
        _task("country", country, COUNTRIES, ASPECTS),
        _task("invention", invention, INVENTIONS, DEEDS),
        _task("animals", animals, ANIMALS, HABITS),
        _task("journey", journey, PLACES, PLACES),
    )


def _wishes() -> tuple[Task, ...]:
    text = (
        *requests(
            "write [me|] a {b} [poem|story|song|letter|speech|joke] about {a}",
            "[make up|tell me|read me] a {b} [story|joke|fairy tale] about {a}",
            "[recommend|suggest] a {b} [book|film|podcast|song] about {a}",
            "[draw|paint|sketch] a {b} picture of {a}",
        ),
        *questions("do you know a {b} [poem|story|song|joke] about {a}", "can you sing a {b} song about {a}"),
    )
    foreign = (
        *requests(
            'translate "{a}" [to|into] {b}',
            'say "{a}" in {b}',
            "translate [this|the following] [to|into] {b}: {a}",
            "[teach me|explain] how to say {a} in {b}",
        ),
        *questions('how do you say "{a}" in {b}', 'what is "{a}" in {b}', "how would I write {a} in {b}"),
        *bare("[in|into] {b}: {a}"),
    )
    cooking = (
        *questions(
            "how [do I|can I|do you] [make|cook|prepare|bake|serve] {a} for {b}",
            "what do I need for {a} for {b}",
            "what goes well with {a} for {b}",
        ),
        *requests(
            "give me a [good|simple|quick] recipe for {a} for {b}",
            "[teach me|show me|explain] how to [make|cook] {a} for {b}",
        ),
        *bare("[a|your best|a quick] recipe for {a} for {b}"),
    )
    errand = (
        *requests("{a} [for me|for us|] {b}", "remind me to {a} {b}", "[help me|go and] {a} {b}"),
        *questions("would you {a} [for me|for us|] {b}", "is it possible to {a} {b}", "who can {a} {b}"),
        *bare("I [need|have|want] to {a} {b}, [can you help|how do I do that]", marks=("?", "")),
    )
    return (
        _task("text", text, TOPICS, MOODS),
        _task("foreign", foreign, PHRASES, LANGUAGES),
        _task("cooking", cooking, DISHES, GUESTS),
        _task("errand", errand, WISHES, WHENS),
    )


def _life() -> tuple[Task, ...]:
    craft = (
        *questions(
            "how [do I|can I|do you] {a} {b}",
            "what do I need to {a} {b}",
            "who could {a} {b}",
            "how [hard|dangerous|expensive] is it to {a} {b}",
            "how long does it take to {a} {b}",
        ),
        *requests("[teach me|show me|explain] how to {a} {b}"),
    )
    nature = (
        *questions("why is {a} {b}", "what makes {a} {b}", "is it true that {a} is {b}", "when is {a} {b}"),
        *requests("[explain|tell me|describe] [why|how] {a} is {b}"),
        *bare("{a} is {b}, [why|is it not]", marks=("?", "")),
    )
    person = (
        *questions(
            "what do [people|we|you] know about the {b} of {a}",
            "when was the {b} of {a}",
            "who [wrote|made a film|cared] about the {b} of {a}",
            "what was special in the {b} of {a}",
        ),
        *requests("tell me [something|a story] about the {b} of {a}", "sum up the {b} of {a} for my homework"),
    )
    shopping = (
        *questions(
            "where [can I|do people] [buy|find|get] {a} {b}",
            "which shop has {a} {b}",
            "what do {a} cost {b}",
            "would you buy {a} {b}",
        ),
        *requests("[find|order|get] me {a} {b}", "recommend a shop for {a} {b}"),
        *bare("I am looking for {a} {b}"),
    )
    return (
        _task("craft", craft, CRAFTS, WAYS),
        _task("nature", nature, THINGS, QUALITIES),
        _task("person", person, PEOPLE, MATTERS),
        _task("shopping", shopping, GOODS, SHOPS),
    )


def tasks() -> tuple[Task, ...]:
    """All kinds of them."""
    return (*_talk(), *_knowledge(), *_wishes(), *_life())
