"""Translation: a generator as a callable on images, and on whole folders."""

from cyclegan.translate.translator import Translator

__all__ = ["Translator"]
