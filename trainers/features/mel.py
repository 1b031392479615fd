"""Log-mel spectrograms with `torch.stft`."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oof.errors import ConfigError
from trainers.features.settings import MelSettings


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frequencies in mel: 2595 log10(1 + f / 700) (O'Shaughnessy 1987; the formula of HTK)."""
    return np.asarray(2595 * np.log10(1 + hz / 700))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mel values in Hz, the inverse of `hz_to_mel`."""
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


@lru_cache(maxsize=16)
def mel_filterbank(settings: MelSettings) -> NDArray[np.float32]:
    """Return the weights of each band over the frequencies of the Fourier transform, shape (bands, n_fft // 2 + 1).

    Triangles whose corners are equally spaced in mel from fmin to fmax, each of area 1 in Hz, so that white noise is
    flat (Slaney's normalisation; what librosa's `htk=True, norm="slaney"` gives).
    """
    low, high = hz_to_mel(np.array([settings.fmin, settings.fmax]))
    corners = mel_to_hz(np.linspace(low, high, settings.bands + 2))
    frequencies = np.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1)
    rise = (frequencies[None] - corners[:-2, None]) / np.diff(corners)[:-1, None]
    fall = (corners[2:, None] - frequencies[None]) / np.diff(corners)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall))  # (bands, frequencies)
    return np.asarray(triangles * (2 / (corners[2:] - corners[:-2]))[:, None], np.float32)


class LogMel(torch.nn.Module):
    """Waveforms to log-mel spectrograms, on the device of its buffers.

    Input: float, (..., n_samples), -1 to 1. Output: (..., bands, 1 + n_samples // hop), natural logarithm of the mean
    power in each band; silence has the value of `SILENCE_POWER`.
    """

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", torch.hann_window(settings.n_fft), persistent=False)
        filters = mel_filterbank(settings)
        if filters.max() < 1e-9:  # rounding errors at fmax
            raise ConfigError(
                f"No frequency of a Fourier transform of n_fft = {settings.n_fft} samples is inside a band from fmin = "
                f"{settings.fmin:g} to fmax = {settings.fmax:g} Hz at sample_rate = {settings.sample_rate}, so all "
                f"spectrograms would be equal. Increase n_fft."
            )
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        if waveform.shape[-1] == 0:
            waveform = waveform.new_zeros(*waveform.shape[:-1], 1)
        flat = waveform.reshape(-1, waveform.shape[-1]).float()
        spectrum = torch.stft(  # zero padding: reflection would need more samples than half a window
            flat,
            self.settings.n_fft,
            self.settings.hop,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (rows, frequencies, frames)
        mel = torch.matmul(self.filters, power) / self.window.square().sum()
        return torch.log(mel + SILENCE_POWER).reshape(*waveform.shape[:-1], *mel.shape[-2:])


# 16 bits resolve 2^-30 of full power; anything below is rounding error, whose logarithm would only amplify noise
SILENCE_POWER = 1e-9


def log_mel(samples: NDArray[np.int16], settings: MelSettings) -> NDArray[np.float32]:
    """Return the log-mel spectrogram of 16-bit samples, shape (bands, frames); see `LogMel`."""
    with torch.inference_mode():
        waveform = torch.from_numpy(samples.astype(np.float32) / 32768)
        return np.asarray(_module(settings)(waveform).numpy(), np.float32)


@lru_cache(maxsize=16)
def _module(settings: MelSettings) -> LogMel:
    return LogMel(settings)
