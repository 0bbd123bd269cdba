"""Tasks: what is asked. Strings, splits and token checks; no torch, no model."""

from tasks.registry import Entry

TASKS: dict[str, Entry] = {
    "ccc": Entry("tasks.ccc:CCC", "country-capital conflict: the true capital or a claimed one"),
    "capital": Entry("tasks.capital:Capital", "capitals without a conflict: a saturated control"),
    "fact_conflict": Entry(
        "tasks.fact_conflict:FactConflict", "a fact against a stated counterfact, four families"
    ),
    "ioi": Entry("tasks.ioi:IOI", "indirect object identification: who is given the book"),
    "ioi_varied": Entry(
        "tasks.ioi_varied:IOIVaried", "ioi in 15 wordings of several lengths, with varied nouns"
    ),
    "gender": Entry("tasks.gender:Gender", "he or she, after a first name"),
    "subject_verb_agreement": Entry(
        "tasks.subject_verb_agreement:SubjectVerbAgreement", "is or are, past a noun in between"
    ),
    "greater_than": Entry("tasks.greater_than:GreaterThan", "a war ends later than it began"),
    "succession": Entry(
        "tasks.succession:Succession", "the next letter, day, month or number of a series"
    ),
    "antonym": Entry("tasks.antonym:Antonym", "the opposite of a word, after two examples"),
    "docstring": Entry(
        "tasks.docstring:Docstring", "the parameter that a docstring describes next"
    ),
    "sentiment": Entry(
        "tasks.sentiment:Sentiment", "positive or negative: the verdict of a review"
    ),
    "induction": Entry("tasks.induction:Induction", "a list of words that comes again"),
    "mixture": Entry("tasks.mixture:Mixture", "prompts of several tasks in turn"),
    "file": Entry("tasks.from_file:FromFile", "prompts from a file: its path, .jsonl or .csv"),
    "arithmetic": Entry("tasks.arithmetic:Arithmetic", "the sum of two digits, after one example"),
    "planted": Entry("tasks.planted:Planted", "what a planted model was wired to answer"),
}
"""Every task by name; a new one is one file and one line here."""
