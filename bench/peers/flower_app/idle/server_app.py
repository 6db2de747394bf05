"""The server: stock FedAvg, and the time at which each round begins."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """FedAvg that notes when it begins a round."""

    times: Path

    def configure_train(self, *args: Any, **kwargs: Any) -> Iterable[Message]:
        """Note the time, then do as FedAvg does."""
        with self.times.open("a") as file:
            file.write(f"{time.time()}\n")
        return super().configure_train(*args, **kwargs)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; one more begins than is measured."""
    config = context.run_config
    num_sites = int(config["num-sites"])
    params = np.random.default_rng(7).random(int(config["num-values"]), np.float32)
    strategy = TimedFedAvg(
        fraction_evaluate=0.0, min_train_nodes=num_sites, min_available_nodes=num_sites
    )
    strategy.times = Path(str(config["times"]))
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([params]),
        num_rounds=int(config["num-rounds"]),
        timeout=900,
    )
