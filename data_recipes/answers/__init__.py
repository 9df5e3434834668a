"""Final answers: `final.final_answer` reads them from a text, `judge.same_answer` says whether two are equal."""
