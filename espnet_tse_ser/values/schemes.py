"""Evaluation schemes: what is trained on, chosen on and tested on, fold by fold."""

SCHEMES = {
    "loso": "test on each group of speakers in turn",
    "loso_speaker": "test on each speaker in turn, dev on the rest of the group",
    "best_test_epoch": "optimistic: epoch chosen on the test fold",
}
OPTIMISTIC = "best_test_epoch"
