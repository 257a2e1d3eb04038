"""Certificates for tests, made by openssl when they are needed."""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory of its own, and what it has signed."""

    directory: object

    @property
    def certificate(self):
        return str(self.directory / "ca.pem")

    @property
    def flags(self):
        """Flags of a node that serves TLS with the certificate "server"."""
        return ["--tls-cert", str(self.directory / "server.pem"), "--tls-key", str(self.directory / "server.key")]

    def sign(self, name, addresses):
        """A certificate that is good for some addresses."""
        names = ",".join(f"IP:{address}" for address in addresses)
        key, csr, path = (str(self.directory / f"{name}.{ending}") for ending in ("key", "csr", "pem"))
        _openssl("req", "-newkey", "ec:" + self._curve, "-nodes", "-keyout", key, "-out", csr, "-subj", f"/CN={name}")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl(
            *("x509", "-req", "-in", csr, "-CA", self.certificate, "-CAkey", str(self.directory / "ca.key")),
            *("-CAcreateserial", "-out", path, "-days", "2", "-extfile", str(extensions)),
        )

    @property
    def _curve(self):
        return str(self.directory / "curve.pem")


def make_authority(directory, addresses):
    """An authority, and a certificate "server" for these addresses."""
    authority = Authority(directory)
    _openssl("ecparam", "-name", "prime256v1", "-out", str(directory / "curve.pem"))
    _openssl(
        *("req", "-x509", "-newkey", "ec:" + str(directory / "curve.pem"), "-nodes", "-days", "2"),
        *("-keyout", str(directory / "ca.key"), "-out", authority.certificate, "-subj", "/CN=Dunlin test authority"),
    )
    authority.sign("server", addresses)
    return authority


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
