dfens check                            # labels and headers of all clips
dfens extract --dry-run                # what is there, what is missing
dfens extract                          # frames, key frames and sound; resumes after kill -9
dfens extract --sheet sheet.png        # 12 clips to look at: frames, key frames, spectrogram
