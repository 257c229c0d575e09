"""Recognising whole sets of mixtures: from signals to the rows of ``hyp.tsv``."""

from espnet_tse_ser.inference.scoring import score
from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS
from espnet_tse_ser.progress import progress
from espnet_tse_ser.training.batches import inference_batches
from espnet_tse_ser.training.preprocessor import label_index


def hypothesis_columns(model):
    """Columns of the table of hypotheses of a `TSESER`."""
    columns = ["id", "reference", "hypothesis", *(f"p_{label}" for label in model.labels)]
    return columns + (list(SIGNAL_COLUMNS) if model.gives_speech else [])


def recognize_set(model, data, batch_size, keep=None, features=None, label="recognize", **how):
    """Recognise all of a set.

    Args:
        model: `TSESER`.
        data: `MixtureSet`.
        batch_size: utterances at a time; the result does not depend on it.
        keep: called with each id and its `Recognition`.
        features: `FeatureCache` of what is recognised, instead of its audio; for a SER model.
        how: the speech that the model gives is scored, see `score`.

    Returns:
        list of dicts with the keys of `hypothesis_columns`, sorted by id.

    Raises:
        UserError: an emotion that is none of the model's, or audio that cannot be used.
    """
    for utt in data.ids:
        label_index(utt, data.emotion(utt), model.labels)
    rows = []
    embeddings = model.embeddings() if model.extracts else None
    for batch in progress(inference_batches(data.lengths, batch_size, data.fs), label):
        if features is None:
            signals = [[data.stream(name, utt) for utt in batch] for name in model.inputs]
        else:
            signals = [[features.load(utt) for utt in batch]]
        results = model.recognize(*signals, embeddings=embeddings, names=batch)
        for utt, result in zip(batch, results, strict=True):
            row = {"id": utt, "reference": data.emotion(utt), "hypothesis": result.label}
            row |= {f"p_{label}": f"{p:.6f}" for label, p in result.probabilities.items()}
            if model.gives_speech:
                row |= score(data, utt, result.speech, **how)
            rows.append(row)
            if keep is not None:
                keep(utt, result)
    return sorted(rows, key=lambda row: row["id"])


def embed_set(model, data, batch_size):
    """Embeddings of a set by a recogniser of speech: id -> ``(size,)`` float32.

    Args:
        model: `TSESER`. data: `MixtureSet`. batch_size: utterances at a time.
    """
    embeddings = {}
    for batch in progress(inference_batches(data.lengths, batch_size, data.fs), "embed"):
        speech = [data.stream("speech", utt) for utt in batch]
        embeddings |= zip(batch, model.embed(speech), strict=True)
    return embeddings


def refine_set(model, data, batch_size):
    """What a TRNet's refinement gives of a set.

    Args:
        model: `TSESER` of a TRNet. data: `MixtureSet`. batch_size: utterances at a time.

    Returns:
        id -> embedding before the bridge and after it, ``(size,)`` each, and score (a float).
    """
    refined = {}
    for batch in progress(inference_batches(data.lengths, batch_size, data.fs), "refine"):
        signals = [[data.stream(name, utt) for utt in batch] for name in model.inputs]
        refined |= zip(batch, model.refine(*signals), strict=True)
    return refined
