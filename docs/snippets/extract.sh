# labels and headers of all clips
dfens check
# what is stored, what is missing
dfens extract --dry-run
# frames, key frames and sound; resumes after kill -9
dfens extract
# 12 clips to look at: frames, key frames, spectrogram
dfens extract --sheet sheet.png
