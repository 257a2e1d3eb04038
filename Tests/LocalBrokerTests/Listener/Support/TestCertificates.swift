import Crypto
import Foundation
import NIOSSL
import SwiftASN1
import X509

@testable import LocalBroker

/// An authority and what it has signed, as files for one test.
struct TestCertificates {
    let directory: String
    let authority: Signed

    /// A certificate and its key.
    struct Signed {
        var certificate: Certificate
        var key: P256.Signing.PrivateKey

        var certificatePEM: String { get throws { try self.certificate.serializeAsPEM().pemString } }
        var keyPEM: String { self.key.pemRepresentation }

        func source() throws -> (NIOSSLCertificateSource, NIOSSLPrivateKeySource) {
            (
                .certificate(try NIOSSLCertificate(bytes: Array(self.certificatePEM.utf8), format: .pem)),
                .privateKey(try NIOSSLPrivateKey(bytes: Array(self.keyPEM.utf8), format: .pem))
            )
        }
    }

    /// Runs a test with a server certificate of the name `localhost`, and removes the files.
    static func run(_ body: (TestCertificates) async throws -> Void) async throws {
        let directory = NSTemporaryDirectory() + "dunlin-tls-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let certificates = TestCertificates(directory: directory, authority: try Self.makeAuthority("authority"))
        try certificates.write(certificates.authority.certificatePEM, to: "ca.pem")
        try certificates.install(certificates.sign("localhost"))
        try await body(certificates)
    }

    var certificateFile: String { self.directory + "/cert.pem" }
    var keyFile: String { self.directory + "/key.pem" }
    var authorityFile: String { self.directory + "/ca.pem" }

    func path(_ name: String) -> String { self.directory + "/" + name }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: self.path(name)), options: .atomic)
    }

    /// Puts a server certificate where the broker reads it.
    func install(_ signed: Signed) throws {
        try self.write(signed.keyPEM, to: "key.pem")
        try self.write(signed.certificatePEM, to: "cert.pem")
    }

    static func makeAuthority(_ name: String) throws -> Signed {
        let key = P256.Signing.PrivateKey()
        let subject = try DistinguishedName { CommonName(name) }
        let certificate = try Self.make(subject, key, issuer: subject, issuerKey: key, isAuthority: true, daysLeft: 10)
        return Signed(certificate: certificate, key: key)
    }

    /// A certificate with this common name, or with none.
    func sign(_ name: String?, daysLeft: Double = 10) throws -> Signed {
        try self.sign(subject: DistinguishedName { if let name { CommonName(name) } }, daysLeft: daysLeft)
    }

    func sign(subject: DistinguishedName, daysLeft: Double = 10) throws -> Signed {
        let key = P256.Signing.PrivateKey()
        let certificate = try Self.make(
            subject,
            key,
            issuer: self.authority.certificate.subject,
            issuerKey: self.authority.key,
            isAuthority: false,
            daysLeft: daysLeft
        )
        return Signed(certificate: certificate, key: key)
    }

    private static func make(
        _ subject: DistinguishedName,
        _ key: P256.Signing.PrivateKey,
        issuer: DistinguishedName,
        issuerKey: P256.Signing.PrivateKey,
        isAuthority: Bool,
        daysLeft: Double
    ) throws -> Certificate {
        let end = Date() + daysLeft * 86_400
        return try Certificate(
            version: .v3,
            serialNumber: .init(),
            publicKey: .init(key.publicKey),
            notValidBefore: end - 20 * 86_400,
            notValidAfter: end,
            issuer: issuer,
            subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(
                    isAuthority
                        ? BasicConstraints.isCertificateAuthority(maxPathLength: nil) : .notCertificateAuthority
                )
                SubjectAlternativeNames([.dnsName("localhost")])
            },
            issuerPrivateKey: .init(issuerKey)
        )
    }
}

extension TestCertificates {
    /// What makes a listener use these files.
    func options(
        _ clientCertificates: BrokerConfiguration.Listener.TLSOptions.ClientCertificates = .none,
        minimumVersion: BrokerConfiguration.Listener.TLSOptions.Version = .v12
    ) -> BrokerConfiguration.Listener.TLSOptions {
        .init(
            certificateFile: self.certificateFile,
            privateKeyFile: self.keyFile,
            authorityFile: clientCertificates == .none ? nil : self.authorityFile,
            clientCertificates: clientCertificates,
            minimumVersion: minimumVersion
        )
    }

    /// Runs a test with a broker that speaks TLS.
    static func runBroker(
        _ configuration: BrokerConfiguration = .test(),
        clientCertificates: BrokerConfiguration.Listener.TLSOptions.ClientCertificates = .none,
        minimumVersion: BrokerConfiguration.Listener.TLSOptions.Version = .v12,
        _ body: (TestCertificates, TestBroker) async throws -> Void
    ) async throws {
        try await Self.run { certificates in
            var configuration = configuration
            configuration.listeners[0].tls = certificates.options(clientCertificates, minimumVersion: minimumVersion)
            try await TestBroker.run(configuration) { try await body(certificates, $0) }
        }
    }
}
