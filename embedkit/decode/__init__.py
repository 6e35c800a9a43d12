"""Encoded bytes to pixels: one policy, an exact decoder and a fast one."""

from embedkit.decode.pillow import decode_image
from embedkit.decode.policy import DecodedImage, DecodePolicy
from embedkit.decode.sniff import sniff_format

__all__ = ["DecodePolicy", "DecodedImage", "decode_image", "sniff_format"]
