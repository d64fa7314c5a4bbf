"""Where in a network does BatchNorm switch channels off?

The paper counts γ near 0 over whole networks; the collected tables hold the stage of each channel. After
`make reproduce`, run `python examples/gamma_by_stage.py results/digits` in the project's folder, or this file
cell by cell in an editor that supports `# %%`.
"""

# %%
import sys

import pandas as pd
import seaborn as sns

study = sys.argv[1] if len(sys.argv) == 2 else "results/digits"
channels = pd.read_parquet(f"{study}/experiments/features/affine.parquet")
channels["near zero"] = 100.0 * (channels["gamma"].abs() < 0.05)
groups = channels.groupby(["architecture", "regime", "seed", "stage"], observed=True)
runs = groups["near zero"].mean().reset_index()
print(runs.pivot_table("near zero", ["architecture", "regime"], "stage", observed=True).round(1))

# %%
style = {"kind": "line", "marker": "o", "height": 2.5, "errorbar": "sd"}
grid = sns.relplot(runs, x="stage", y="near zero", hue="regime", col="architecture", **style)
grid.set_axis_labels("stage (0: stem)", "|γ| < 0.05 (% of channels)").set_titles("{col_name}")
grid.set(ylim=(0, None)).savefig("gamma_by_stage.png")
