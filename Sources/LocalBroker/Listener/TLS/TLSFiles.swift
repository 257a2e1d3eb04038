package import NIOSSL

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Reads certificates and keys in PEM, with errors that name the file.
package enum TLSFiles {
    /// - Returns: at least one.
    package static func certificates(_ path: String, what: String) throws(TLSFileError) -> [NIOSSLCertificate] {
        try Self.checkReadable(path, what: what)
        let certificates: [NIOSSLCertificate]
        do {
            certificates = try NIOSSLCertificate.fromPEMFile(path)
        } catch {
            throw TLSFileError("the \(what) \(path) is not a PEM file of certificates")
        }
        guard !certificates.isEmpty else { throw TLSFileError("the \(what) \(path) holds no PEM certificate") }
        return certificates
    }

    package static func privateKey(_ path: String) throws(TLSFileError) -> NIOSSLPrivateKey {
        try Self.checkReadable(path, what: "private key file")
        do {
            return try NIOSSLPrivateKey(file: path, format: .pem)
        } catch {
            throw TLSFileError("the private key file \(path) holds no PEM private key without a passphrase")
        }
    }

    /// A context for a certificate and a key that were read from these files.
    package static func makeContext(
        _ configuration: TLSConfiguration,
        certificateFile: String,
        privateKeyFile: String
    ) throws(TLSFileError) -> NIOSSLContext {
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch NIOSSLError.failedToLoadPrivateKey {
            throw TLSFileError(
                "the private key in \(privateKeyFile) does not belong to the certificate in \(certificateFile)"
            )
        } catch {
            throw TLSFileError("the certificate in \(certificateFile) cannot be used: \(error)")
        }
    }

    /// Reads a byte, as a folder too can be opened, and asks for the end, which a pipe does not have. (Not by `stat`, whose
    /// members are in another module in each kind of build.)
    private static func checkReadable(_ path: String, what: String) throws(TLSFileError) {
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        defer { if descriptor >= 0 { close(descriptor) } }
        var byte: UInt8 = 0
        guard descriptor >= 0, lseek(descriptor, 0, SEEK_END) >= 0, pread(descriptor, &byte, 1, 0) >= 0 else {
            throw TLSFileError("the \(what) \(path) cannot be read: \(String(cString: strerror(errno)))")
        }
    }
}
