"""What has become of a task, from its exit status and from what Slurm says of it."""

from espnet_tse_ser.jobs.logs import name_of_signal

# In place of an exit status: it ended with 75 (errors.REQUEUE_STATUS) after Slurm had signalled it.
SAVED = "saved"
# What squeue says of tasks that have not ended, and of those that the cluster lost or stopped.
OPEN = {
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING"),
    *("STAGE_OUT", "STOPPED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"),
    "SPECIAL_EXIT",
}
_LOST = {"NODE_FAIL": "node failure", "PREEMPTED": "preempted", "BOOT_FAIL": "node did not boot"}
_STOPPED = {
    "TIMEOUT": "time limit reached",
    "DEADLINE": "deadline reached",
    "OUT_OF_MEMORY": "out of memory",
    "CANCELLED": "cancelled",
}


def judge(status, state):
    """What became of a task that has ended.

    Args:
        status: its exit status, `SAVED`, or None if it left none.
        state: what Slurm says, e.g. ``NODE_FAIL``, or None if it is not on record any more.

    Returns:
        ("done", ""), ("saved", reason), ("lost", reason) or ("failed", reason). A task that saved
        its work when Slurm warned it, and one that the cluster lost, may be run again.
    """
    if status == 0:
        return "done", ""
    if status == SAVED and state != "CANCELLED":
        return "saved", "stopped by Slurm, its work is saved"
    if state in _LOST:
        return "lost", _LOST[state]
    if state in _STOPPED:
        return "failed", _STOPPED[state]
    if status is not None:
        killed = f" (killed by {name_of_signal(status - 128)})" if 128 < status < 193 else ""
        return "failed", f"exit status {status}{killed}"
    if state is None:
        return "lost", "gone without a status, and without a record at Slurm"
    return "failed", f"no exit status, {state} for Slurm (is its log's disk full?)"
