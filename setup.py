"""What pyproject.toml cannot say yet: the short way of an answer is compiled, where there is a compiler."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "anycastle.dns.hot",
            ["src/anycastle/dns/hot.pyx"],
            depends=glob("src/anycastle/dns/hot_*.pxi"),
            optional=True,
        )
    ]
)
