#!/usr/bin/env bash
# How far every training and inference is; takes the options of run.sh (--folds, --systems, ...).
exec ./run.sh --status true "$@"
