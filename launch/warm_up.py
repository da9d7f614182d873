"""Compile what DeepSpeed compiles at its first start: ``python -m launch.warm_up``."""

from launch.rendezvous import rendezvous


def main() -> None:
    """Join a process group of one and leave it."""
    rendezvous()
    from pretrain.engine import join_process_group, leave_process_group

    join_process_group()
    leave_process_group()


if __name__ == "__main__":
    main()
