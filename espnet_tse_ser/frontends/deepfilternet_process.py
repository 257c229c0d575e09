"""A process of its own that runs DeepFilterNet3's library, for `deepfilternet`.

To make the network's state takes as long as two seconds of speech, and once it has processed a
signal it cannot be reset. So it is made once, and each signal is processed by a fork of this
process, whose copy of the state is as new: an utterance of RAVDESS takes 0.24 s instead of 0.58. To
be forked a process must have one thread: that is why this is not where the front-end is, and
imports nothing that starts others.

    python deepfilternet_process.py LIBRARY MODEL ATTENUATION

It writes how many samples a frame has. For each signal it reads the number of frames and their
samples (float32) and writes as many samples; numbers are of eight bytes. Between signals it ends
when its input does.
"""

import ctypes
import os
import signal
import sys

COUNT = 8  # bytes of a number
_SAMPLE = 4


def _load(path):
    """The library, with what its functions take and return."""
    library = ctypes.CDLL(path)
    pointer = ctypes.c_void_p
    for name, result, *arguments in (
        ("df_create", pointer, ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p),
        ("df_get_frame_length", ctypes.c_size_t, pointer),
        ("df_process_frame", ctypes.c_float, pointer, pointer, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main(path, model, attenuation):
    """Process what is read until there is no more; the exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody waits for the result any more
    try:
        library = _load(path)
    except OSError as error:
        return f"{path}: {error}"
    state = library.df_create(os.fsencode(model), float(attenuation), None)
    size = library.df_get_frame_length(state) * _SAMPLE
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write((size // _SAMPLE).to_bytes(COUNT, "little"))
    sink.flush()
    while len(count := source.read(COUNT)) == COUNT:
        expected = int.from_bytes(count, "little") * size
        frames = bytearray(source.read(expected))
        if len(frames) < expected:
            break
        child = os.fork()
        if not child:
            sink.write(_process(library, state, frames, size))
            sink.flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            return f"the fork that processed a signal ended with exit status {status}"
    return 0


def _process(library, state, frames, size):
    """The frames, of ``size`` bytes each, in the order that the state has to see them."""
    given = (ctypes.c_char * len(frames)).from_buffer(frames)
    results = bytearray(len(frames))
    taken = (ctypes.c_char * len(results)).from_buffer(results)
    for start in range(0, len(frames), size):
        places = (ctypes.addressof(buffer) + start for buffer in (given, taken))
        library.df_process_frame(state, *places)
    return results


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
