# generates clips of talking faces with three kinds of forgery, trains on video, sound and both
dfens demo av --recipe demo-av
dfens -C av extract --sheet demo-sheet.png
