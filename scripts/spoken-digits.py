#!/usr/bin/env python3
"""Makes a data set of spoken digits with the speech synthesiser espeak-ng: DIR/CLASS/VOICE_speedS_pitchP_N.wav.

Ten classes, "zero" to "nine"; 48 voices (an accent of English and a speaker each); three speeds and pitches; each spoken
word twice, with silence before it and white noise 30 to 5 decibels below it. Voices of test and validation are
held out by `dlopt prepare DIR --group '^([^_]+)_' --split test=0.2,validation=0.2`. 22,050 samples a second, 16 bits.

The same version of espeak-ng gives the same bytes. Needs Python's standard library and espeak-ng (`apt-get install
espeak-ng`); the figures in README.md are of espeak-ng 1.51.

usage: spoken-digits.py DIR
"""

import array
import io
import os
import random
import subprocess
import sys
import wave

DIGITS = "zero one two three four five six seven eight nine".split()
ACCENTS = "en-us en en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split()
SPEAKERS = """
    m1 m2 m3 m4 m5 m7 m8 f1 f2 f3 f4 f5 Andy Denis Annie linda steph Jacky Lee aunty Michael Alex Mario Marco john adam
    Alicia Andrea antonio belinda benjamin boris caleb david Diogo edward Gene Henrique Hugo marcelo max michel miguel mike
    pablo paul pedro robert
""".split()
SPEEDS_AND_PITCHES = ((130, 38), (160, 58), (190, 48))
DECIBELS = (30, 20, 15, 10, 5)
SILENCE = 0.12  # Longest silence before a word, in seconds.
NOISE = 1 << 17


def spoken(digit, accent, speaker, speed, pitch):
    """Samples of a word, and how many there are in a second."""
    line = ["espeak-ng", "-v", f"{accent}+{speaker}", "-s", str(speed), "-p", str(pitch), "--stdout", digit]
    found = subprocess.run(line, check=True, capture_output=True).stdout
    # A sound that goes to a pipe claims to be endless.
    data = found.index(b"data") + 8
    with wave.open(io.BytesIO(found)) as sound:
        rate = sound.getframerate()
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
    samples = array.array("h", found[data : len(found) - (len(found) - data) % 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples, rate


def noisy(samples, rate, noise, draw):
    """A word after some silence, with noise over both."""
    silence = int(draw.random() * SILENCE * rate)
    power = sum(value * value for value in samples) / len(samples)
    level = (power / 10 ** (draw.choice(DECIBELS) / 10)) ** 0.5
    begin = draw.randrange(NOISE - len(samples) - silence)
    clean = array.array("h", bytes(2 * silence)) + samples
    mixed = (int(value + level * noise[begin + place]) for place, value in enumerate(clean))
    return array.array("h", (max(-32768, min(32767, value)) for value in mixed))


def write(path, samples, rate):
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(path, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.rstrip().rsplit("\n", 1)[-1])
    root = sys.argv[1]
    if os.path.exists(root):
        sys.exit(f"{root}: exists")
    part = root.rstrip("/") + ".part"
    source = random.Random("noise")
    noise = [source.gauss(0, 1) for _ in range(NOISE)]
    voices = [(ACCENTS[place % len(ACCENTS)], speaker) for place, speaker in enumerate(SPEAKERS)]
    # What espeak-ng does not know it speaks with another voice, which would then be in two splits.
    samples = {spoken(DIGITS[7], *voice, *SPEEDS_AND_PITCHES[0])[0].tobytes() for voice in voices}
    if len(samples) < len(voices):
        sys.exit(f"{len(voices)} voices sound like {len(samples)}: this espeak-ng lacks some of them")
    for digit in DIGITS:
        os.makedirs(os.path.join(part, digit))
        for accent, speaker in voices:
            for speed, pitch in SPEEDS_AND_PITCHES:
                samples, rate = spoken(digit, accent, speaker, speed, pitch)
                for take in range(2):
                    name = f"{accent}+{speaker}_speed{speed}_pitch{pitch}_{take}.wav"
                    draw = random.Random(f"{digit}/{name}")
                    write(os.path.join(part, digit, name), noisy(samples, rate, noise, draw), rate)
    os.rename(part, root)


main()
