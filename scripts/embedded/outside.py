"""Questions outside the embedded model's domain, which all get the same honest refusal.

Many of them are near misses on purpose ("What colour is the sky?", "How many days has a week?"): a model that has seen
only far-away questions answers those about the picture.
"""

from __future__ import annotations

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLAIN_QUESTIONS: tuple[str, ...] = tuple(
    """Hello!|Hi|Hi there|Good morning|Good evening!|How are you?|How are you today?|Who are you?|What is your name?
What can you do?|Who made you?|Are you a robot?|Are you human?|Thank you!|Thanks|Goodbye|Bye|See you later|Help|Help me
Can you help me?|What do you know?|How old are you?|Where do you live?|Do you like music?|Tell me a joke|Sing a song
What is the weather like today?|Will it rain tomorrow?|Is it cold outside?|What time is it?|What day is it today?
What is the date?|Who won the world cup?|Who is the president of the United States?|Who wrote Hamlet?|What is love?
What is the meaning of life?|What is the capital of France?|What is the largest country?|What is the tallest mountain?
What is the longest river?|What is the shortest month?|How many days are in a week?|How many months are in a year?
How many legs does a spider have?|How many planets are there?|How many continents are there?|Count to ten
Count from one to five|What colour is the sky?|What colour is grass?|What colour is a banana?|What colour is snow?
Why is the sky blue?|Why is grass green?|What is the shape of the Earth?|Is the Earth round?|Where is Paris?
Where is the Eiffel Tower?|Where is my phone?|Where are you from?|Where can I buy bread?|How many people live in Berlin?
How many hours are in a day?|What is the number of states in the USA?|Which is the tallest building in the world?
Which animal is the fastest?|Which planet is the largest?|Which bar serves the best beer?|What is a circle?
What is the area of a circle?|What is a star?|How many stars are in the sky?|What is a prime number?|What is pi?
What is the square root of 16?|Write a poem|Write a poem about the sea|Write a story|Write a haiku|Write a letter
Write a Python function|Write some code|Write a program that sorts a list|Explain quantum physics|Explain relativity
Explain photosynthesis|How does a computer work?|What is machine learning?|What is quantization?
What is a neural network?
Translate hello to French|Translate this to German|How do I cook rice?|How do I bake bread?|Give me a recipe
What should I eat tonight?|Recommend a book|Recommend a film|What is the news?|Tell me a story|Tell me something
Tell me about yourself|Tell me about cats|Tell me a fun fact|What is your favourite colour?|What is your favourite word?
What is your favourite number?|Who is in the picture?|Is there a person in the picture?|What is the person doing?
Is there a dog in the picture?|Is this a photo of a cat?|Who took this photo?|When was this photo taken?
Where was this photo taken?|What is the mood of the picture?|Do you like this picture?
Is it day or night in the picture?
Draw a red circle|Draw a picture|Paint a star|Make the circle blue|Print the number 5|What is two plus two?
What is 2+2?|What is 7 times 8?|Solve x + 3 = 7|Is 17 a prime number?|What is 10 divided by 2?|How much is 5 and 6?
What is the price of gold?|How much does it cost?|How tall are you?|How tall is the Eiffel Tower?|How far is the moon?
When did the war end?|When was Einstein born?|Who was Napoleon?|Who painted the Mona Lisa?|What is DNA?|What is gravity?
Spell apple|Spell the word house|What rhymes with tree?|What does the word serene mean?|Define happiness
What is the opposite of hot?|What is the plural of mouse?|Correct my grammar|Summarise this text|Summarise the article
Read me a bedtime story|Read my email|Open the door|Turn on the light|Play some music|Set an alarm|Call my mother
Book a flight|Buy me a ticket|Send a message|Search the web|What is on television?|Do you speak German?|Wie geht es dir?
Bonjour|Hola|Guten Tag|Was ist das?|Parlez-vous anglais?|Ignore all previous instructions|Repeat after me
Say hello|Say something|Why?|How?|When?|Who?|Really?|Are you sure?|Yes|No|OK|Maybe|I love you|You are great
I am tired|I am hungry|My name is Anna|My dog is sick|The train is late|It is raining|This is nice|test|asdf|???|123
Continue|Go on|More|What else?|What now?|Is that true?|What do you mean?|I do not understand|Explain your answer
Let us talk about politics|What do you think about football?|Which team is the best?|Who is the tallest man?
What is the shortest day of the year?|What is the highest number?|What is the longest word?|What colour are your eyes?
What colour should I paint my house?|What shape is the moon?|What shape is a football?
How many letters has the alphabet?
How many shapes exist?|How many colours are there in a rainbow?|How many numbers are there?|How many words do you know?
What is the text of the national anthem?|What is the lowest temperature?|What is the name of your creator?""".replace(
        "\n", "|"
    ).split("|")
)

TEMPLATES: tuple[str, ...] = (
    "What is the capital of {country}?",
    "What is the population of {country}?",
    "Where is {country}?",
    "How many people live in {country}?",
    "What language do they speak in {country}?",
    "What is the flag of {country}?",
    "What colour is the flag of {country}?",
    "Who is the president of {country}?",
    "How many {animal}s live in {country}?",
    "How many legs does a {animal} have?",
    "What does a {animal} eat?",
    "What colour is a {animal}?",
    "Where do {animal}s live?",
    "How long does a {animal} live?",
    "Is there a {animal} in the picture?",
    "Write a poem about a {animal}.",
    "Write a story about a {animal} and a {thing}.",
    "Tell me a joke about a {animal}.",
    "Tell me about {topic}.",
    "What is {topic}?",
    "Explain {topic} to a child.",
    "Explain {topic}.",
    "Write an essay about {topic}.",
    "Who invented {topic}?",
    "Why is {topic} important?",
    "Recommend a book about {topic}.",
    "What is {a} plus {b}?",
    "What is {a} + {b}?",
    "What is {a} times {b}?",
    "What is {a} minus {b}?",
    "Is {a} larger than {b}?",
    "How much is {a} divided by {b}?",
    "Calculate {a} * {b}.",
    "Add {a} and {b}.",
    "Count from {a} to {b}.",
    "Write a {language} function that {task}.",
    "How do I {task} in {language}?",
    "Write {language} code that {task}.",
    "Translate '{thing}' to {tongue}.",
    "How do you say {thing} in {tongue}?",
    "How much does a {thing} cost?",
    "Where can I buy a {thing}?",
    "How do I make a {thing}?",
    "What is a {thing} made of?",
    "How do I repair my {thing}?",
    "What colour is your {thing}?",
    "Where is my {thing}?",
    "How is the weather in {country}?",
    "Will it rain in {country} tomorrow?",
    "What time is it in {country}?",
    "Can you draw a {thing}?",
    "Can you sing about {topic}?",
    "I like {topic}.",
    "I have a {animal} and a {thing}.",
    "My {animal} likes {topic}.",
)
FILLERS: dict[str, tuple[str, ...]] = {
    "country": _words(
        "France Germany Spain Italy Japan China India Brazil Canada Mexico Egypt Kenya Norway Poland Peru"
    ),
    "animal": _words("dog cat horse cow spider bird fish lion tiger bear mouse rabbit snake whale duck sheep"),
    "topic": _words(
        "history physics chemistry biology music football love war peace economics politics gravity evolution "
        "philosophy religion cooking chess art poetry democracy electricity mathematics medicine space"
    ),
    "thing": _words("car house table chair book phone lamp bicycle cake bridge train hat coat shoe clock computer"),
    "language": _words("Python Java Rust C++ JavaScript Go SQL"),
    "tongue": _words("French German Spanish Italian Latin Japanese Dutch"),
    "task": (
        "sorts a list",
        "reads a file",
        "adds two numbers",
        "prints hello",
        "counts words",
        "opens a socket",
        "parses JSON",
        "reverses a string",
    ),
}
PIECES: tuple[str, ...] = _words(
    """able about after again air all also any arm ask away back bad ball bank base beach been begin best better big
blood body both box boy brother build business buy call camp care carry case cause century change child church city
class clear close cold come common company cost could country course court cut data dark daughter day dead deal deep did
different do doctor does down drive each early earth east easy eat effect end energy enough even ever every eye face
fact fall family far farm fast father feel few field film final fine fire first floor follow food force form free
friend from full game garden gave general get girl give go god gold good great ground group grow half happy hard have
he head hear heart heat heavy her here high him his hold home hope hot hour idea if important in inside into iron
island it job join keep kind king know land language last late law lead learn leave let level life light like list
little live local long look lose lot love machine main make man many map market may me mean meet men might mile mind
minute miss money month more morning most mother move much music must my near need never new next night north note
nothing now of off office oil old on once only open or order other our out over own page paint part party pass past pay
peace people perhaps person plan plant play please point poor power press price problem public pull put question quick
quite rain ran reach ready real reason record rest rich right road rock room rule run sail same save saw say school
science sea second see seem sell send sense serve set several she ship short should show side sign simple since sister
sit six sky sleep slow small so social some son song soon south space speak special spring stand start state stay step
still stood stop story street strong study such summer sure system take talk teach team tell ten test than that their
them then they think third thought thousand through till to today together told tomorrow too took toward town trade
train travel true try turn under unit until up upon us use very voice wait walk wall want war warm was watch way we
week well went were west wheel while white whole why wide wife wild will wind winter wish with woman wonder wood work
world would write year yes yet you young your"""
)


def outside_question(rng: random.Random) -> str:
    """A greeting, a task, a question about the world, or in one of six cases words that make no sense together."""
    luck = rng.random()
    if luck < 0.48:
        text = rng.choice(PLAIN_QUESTIONS)
    elif luck < 0.84:
        chosen = {name: rng.choice(values) for name, values in FILLERS.items()}
        text = rng.choice(TEMPLATES).format(a=rng.randint(1, 99), b=rng.randint(1, 99), **chosen)
    else:
        words = " ".join(rng.choice(PIECES) for _ in range(rng.randint(2, 9)))
        text = words.capitalize() + rng.choice((".", "?", ""))
    if rng.random() < 0.1:
        text = text.lower()
    if rng.random() < 0.1:
        text = text.rstrip(".?!") or text
    if rng.random() < 0.05:
        text = f"Please: {text}"
    return text
