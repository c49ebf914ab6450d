"""What `nla predict` writes, for its tests."""

from __future__ import annotations

import pandas as pd

from nla.commands.predict import main


def predicted(*argv: str) -> pd.DataFrame:
    main([*argv, "--out", "out.csv"])
    return pd.read_csv("out.csv")
