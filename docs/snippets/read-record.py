from pathlib import Path

import pandas as pd
import safetensors.numpy

# one folder for each set of settings
folder = next(Path("work/trainers/clips").iterdir())
row = pd.concat(map(pd.read_parquet, folder.glob("*.parquet"))).query("n_bytes > 0").iloc[0]
with (folder / f"{row.shard}.bin").open("rb") as shard:
    shard.seek(row.offset)
    record = safetensors.numpy.load(shard.read(row.n_bytes))
print(record["mel"].shape)  # (bands, columns): log-mel spectrogram
print(record["times_s"][record["is_key"]])  # seconds of the key frames
print(record["sound"].dtype)  # int16, one channel, as recorded
