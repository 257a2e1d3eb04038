import NIOSSL
import SwiftASN1
import X509

/// What a client's certificate says of who it is.
enum PeerCertificate {
    /// The common name in the certificate's subject, the last where there are several as the most particular one; nil if
    /// there is none or it is empty.
    static func commonName(_ certificate: NIOSSLCertificate) -> String? {
        // BoringSSL has verified the certificate; one that it reads and swift-certificates does not names nobody.
        guard let bytes = try? certificate.toDERBytes(), let parsed = try? Certificate(derEncoded: bytes) else {
            return nil
        }
        var name: String?
        for relativeName in parsed.subject {
            for attribute in relativeName where attribute.type == .RDNAttributeType.commonName {
                name = String(attribute.value)
            }
        }
        return name?.isEmpty == true ? nil : name
    }
}
