# To be sourced: where the corpora are. An environment variable of the same name wins:
#     RAVDESS=/corpora/ravdess LIBRISPEECH=/corpora/LibriSpeech ./run.sh
# Empty: to be filled in by whoever has the corpus. downloads: the recipe makes or fetches it.
# shellcheck shell=bash disable=SC2034

# IEMOCAP_full_release, with Session1 ... Session5
IEMOCAP=${IEMOCAP:-}
# LibriSpeech, with SPEAKERS.TXT and train-clean-100, train-clean-360, ...
LIBRISPEECH=${LIBRISPEECH:-}
# Emotional Speech Dataset, with 0011 ... 0020 (for --source_set esd)
ESD=${ESD:-}
# RAVDESS, with Audio_Speech_Actors_01-24 or Actor_01 ... Actor_24
RAVDESS=${RAVDESS:-}
# ASED_V1, with 01Neutral ... 05Angry
ASED=${ASED:-}
# speechocean762, with WAVE, train and test
SPEECHOCEAN762=${SPEECHOCEAN762:-}
# Noise: ESC-50-master, with audio and meta
ESC50=${ESC50:-}
# Noise: musan, with noise, music and speech
MUSAN=${MUSAN:-}
# Noise: UrbanSound8K, with audio/fold1 ... fold10
URBANSOUND8K=${URBANSOUND8K:-}
# Noise: any folder of sounds, each a recording of its own
NOISE=${NOISE:-}
# IEMOCAP, LibriSpeech and ESD in miniature, spoken by a synthesizer
MINI=${MINI:-downloads/mini}

# require_db NAME...: stop unless these are filled in.
require_db() {
    local name
    for name; do
        if [ -z "${!name}" ]; then
            echo "Fill the value of '${name}' of db.sh, or give it as ${name}=DIRECTORY ./run.sh" >&2
            exit 1
        fi
    done
}
