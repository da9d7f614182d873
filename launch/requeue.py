"""The last lines of a job's script: when it is queued again."""

from launch.preemption import EXIT_REFUSED, EXIT_REQUEUE


def requeue_if_saved(max_requeues: int) -> list[str]:
    """Queue the job again where its ranks have saved and stopped, and keep their exit code."""
    return [
        "code=$?",
        f'if [ "$code" -eq {EXIT_REQUEUE} ] && '
        f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_requeues} ]; then',
        '  scontrol requeue "$SLURM_JOB_ID"',
        f'elif [ "$code" -eq {EXIT_REQUEUE} ]; then',
        f'  echo "triptych: saved, and not queued again: slurm.max_requeues is {max_requeues}" >&2',
        "fi",
        'exit "$code"',
    ]


def requeue_if_failed(max_requeues: int) -> list[str]:
    """Queue the job again where its command failed or was killed, but not where it refused."""
    return [
        "code=$?",
        f'if [ "$code" -ne 0 ] && [ "$code" -ne {EXIT_REFUSED} ] && '
        f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_requeues} ]; then',
        '  scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$code"',
    ]
