import ArgumentParser
import LocalBroker

/// Certificates, the same for all listeners that have TLS.
struct TLSOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The node's certificate and its chain, in PEM.", valueName: "file"))
    var tlsCert: FilePath?

    @Option(help: ArgumentHelp("The certificate's private key, in PEM.", valueName: "file"))
    var tlsKey: FilePath?

    @Option(help: ArgumentHelp("The authorities that sign clients' certificates, in PEM.", valueName: "file"))
    var tlsCa: FilePath?

    @Option(help: ArgumentHelp("What is asked of clients' certificates.", valueName: "which"))
    var tlsClientCertificates = ClientCertificates.none

    @Flag(inversion: .prefixedNo, help: "A client's user name is the common name of its certificate.")
    var tlsUserName = false

    @Option(help: ArgumentHelp("The lowest version of TLS.", valueName: "version"))
    var tlsMinVersion = TLSVersion.v12

    /// What the broker needs; nil without a certificate.
    var listenerOptions: BrokerConfiguration.Listener.TLSOptions? {
        guard let certificate = self.tlsCert, let key = self.tlsKey else { return nil }
        return .init(
            certificateFile: certificate.path,
            privateKeyFile: key.path,
            authorityFile: self.tlsCa?.path,
            clientCertificates: self.tlsClientCertificates.policy,
            userNameFromCertificate: self.tlsUserName,
            minimumVersion: self.tlsMinVersion.version
        )
    }

    /// What does not go together.
    var conflicts: [String] {
        if self.tlsCert != nil, self.tlsKey == nil { return ["tls-cert needs tls-key, the file of its key"] }
        if self.tlsKey != nil, self.tlsCert == nil { return ["tls-key needs tls-cert, whose key it is"] }
        guard self.tlsCert != nil else {
            return self.dependents.map { "\($0) has no effect without TLS: set tls-cert and tls-key too" }
        }
        var conflicts: [String] = []
        if self.tlsClientCertificates != .none, self.tlsCa == nil {
            conflicts.append("tls-client-certificates needs tls-ca, the authorities that sign them")
        }
        if self.tlsClientCertificates == .none, self.tlsCa != nil {
            conflicts.append("tls-ca has no effect alone: set tls-client-certificates to optional or required too")
        }
        if self.tlsUserName, self.tlsClientCertificates == .none {
            conflicts.append("tls-user-name needs tls-client-certificates: optional or required")
        }
        return conflicts
    }

    /// The settings that say something of listeners with TLS.
    var dependents: [String] {
        let settings = [
            ("tls-ca", self.tlsCa != nil), ("tls-client-certificates", self.tlsClientCertificates != .none),
            ("tls-user-name", self.tlsUserName), ("tls-min-version", self.tlsMinVersion != .v12),
        ]
        return settings.filter(\.1).map(\.0)
    }

    /// Whether a certificate says who a client is.
    var namesClients: Bool { self.listenerOptions != nil && self.tlsUserName && self.tlsClientCertificates != .none }
}

/// The value of `--tls-client-certificates`.
enum ClientCertificates: String, SettingValue, CaseIterable {
    case none
    case optional
    case required

    var policy: BrokerConfiguration.Listener.TLSOptions.ClientCertificates {
        switch self {
        case .none: .none
        case .optional: .optional
        case .required: .required
        }
    }
}

/// The value of `--tls-min-version`.
enum TLSVersion: String, SettingValue, CaseIterable {
    case v12 = "1.2"
    case v13 = "1.3"

    var version: BrokerConfiguration.Listener.TLSOptions.Version {
        switch self {
        case .v12: .v12
        case .v13: .v13
        }
    }
}
