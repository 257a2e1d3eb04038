import Crypto
import Foundation
import SwiftASN1
import X509

@testable import Cluster

/// Authorities and the certificates of nodes, as files for one test.
struct LinkTestCertificates {
    let directory: String

    static func run(_ body: (LinkTestCertificates) async throws -> Void) async throws {
        let directory = NSTemporaryDirectory() + "dunlin-link-tls-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body(LinkTestCertificates(directory: directory))
    }

    /// Files for a node: a certificate that a new authority has signed, or that of other files, and what it asks of others.
    func files(
        _ name: String,
        signedLike other: LinkCredentials.CertificateFiles? = nil,
        daysLeft: Double = 10
    ) throws
        -> LinkCredentials.CertificateFiles
    {
        let authorityKey: P256.Signing.PrivateKey
        let files = LinkCredentials.CertificateFiles(
            certificate: "\(self.directory)/\(name).pem",
            privateKey: "\(self.directory)/\(name).key",
            authority: other?.authority ?? "\(self.directory)/\(name)-ca.pem"
        )
        let authority = try DistinguishedName { CommonName(files.authority) }
        if let other {
            let text = try String(contentsOfFile: other.authority + ".key", encoding: .utf8)
            authorityKey = try P256.Signing.PrivateKey(pemRepresentation: text)
        } else {
            authorityKey = P256.Signing.PrivateKey()
            let certificate = try Self.make(
                authority,
                authorityKey,
                by: authority,
                authorityKey,
                isAuthority: true,
                daysLeft: 10
            )
            try self.write(certificate.serializeAsPEM().pemString, to: files.authority)
            try self.write(authorityKey.pemRepresentation, to: files.authority + ".key")
        }
        let key = P256.Signing.PrivateKey()
        let subject = try DistinguishedName { CommonName(name) }
        let certificate = try Self.make(
            subject,
            key,
            by: authority,
            authorityKey,
            isAuthority: false,
            daysLeft: daysLeft
        )
        try self.write(certificate.serializeAsPEM().pemString, to: files.certificate)
        try self.write(key.pemRepresentation, to: files.privateKey)
        return files
    }

    private func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    }

    private static func make(
        _ subject: DistinguishedName,
        _ key: P256.Signing.PrivateKey,
        by issuer: DistinguishedName,
        _ issuerKey: P256.Signing.PrivateKey,
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
            },
            issuerPrivateKey: .init(issuerKey)
        )
    }
}
