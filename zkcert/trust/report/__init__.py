"""A verification as one page that people can read, keep and print: `zkcert report`.

html   elements and the page around them; text of others stays text
style  the one style sheet
plot   scores of calibration models, as a picture and in words
words  what is said to whoever decides
page   the sections

Nothing here reads a file or checks anything: `zkcert.api.reporting` verifies, and gives what it found.
"""
