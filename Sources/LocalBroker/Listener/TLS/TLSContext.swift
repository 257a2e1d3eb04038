import Logging
import NIOCore
import NIOSSL
import Synchronization

/// The certificates of one listener as they were last read without error. New handshakes use them; those before keep
/// what they began with.
final class TLSContext: Sendable {
    private struct State {
        var context: NIOSSLContext
        var expirySeconds: Int
    }

    let options: BrokerConfiguration.Listener.TLSOptions
    private let isWebSocket: Bool
    private let state: Mutex<State>

    /// - Throws: `TLSFileError` if a file cannot be used.
    init(_ options: BrokerConfiguration.Listener.TLSOptions, isWebSocket: Bool) throws(TLSFileError) {
        self.options = options
        self.isWebSocket = isWebSocket
        self.state = Mutex(try Self.load(options, isWebSocket: isWebSocket))
    }

    /// Reads the files again and puts them in force, or throws and changes nothing.
    func reload() throws(TLSFileError) {
        let new = try Self.load(self.options, isWebSocket: self.isWebSocket)
        self.state.withLock { $0 = new }
    }

    /// The files that are read.
    var files: [String] {
        [self.options.certificateFile, self.options.privateKeyFile] + [self.options.authorityFile].compactMap { $0 }
    }

    /// When the broker's certificate expires, in seconds since the Unix epoch.
    var expirySeconds: Int { self.state.withLock { $0.expirySeconds } }

    /// Says so in the log if no client will accept the certificate any more.
    func warnIfExpired(nowSeconds: Int, logger: Logger) {
        guard self.expirySeconds <= nowSeconds else { return }
        logger.warning("the certificate in \(self.options.certificateFile) has expired")
    }

    /// Bytes that a connection's outbound buffer keeps between writes; without a limit it keeps what its largest took.
    private static let outboundCapacityMax = 16 * 1024

    /// The handler of one new connection.
    func makeHandler() -> NIOSSLServerHandler {
        var configuration = NIOSSLHandler.Configuration()
        configuration.maximumPreservedOutboundBufferCapacity = Self.outboundCapacityMax
        return NIOSSLServerHandler(context: self.state.withLock { $0.context }, configuration: configuration)
    }

    // MARK: Reading files

    private static func load(
        _ options: BrokerConfiguration.Listener.TLSOptions,
        isWebSocket: Bool
    ) throws(TLSFileError) -> State {
        let chain = try TLSFiles.certificates(options.certificateFile, what: "certificate file")
        let key = try TLSFiles.privateKey(options.privateKeyFile)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) },
            privateKey: .privateKey(key)
        )
        configuration.minimumTLSVersion = options.minimumVersion == .v13 ? .tlsv13 : .tlsv12
        configuration.applicationProtocols = [isWebSocket ? "http/1.1" : "mqtt"]
        // As long as a closed connection without TLS is left to read why.
        configuration.shutdownTimeout = .seconds(2)
        if options.clientCertificates != .none {
            guard let file = options.authorityFile else {
                throw TLSFileError("clients' certificates cannot be verified without an authority file")
            }
            configuration.trustRoots = .certificates(try TLSFiles.certificates(file, what: "authority file"))
            configuration.certificateVerification =
                options.clientCertificates == .required ? .noHostnameVerification : .optionalVerification
            configuration.sendCANameList = true
        }
        let expiry = chain.first.map { Int($0.notValidAfter) } ?? 0
        let context = try TLSFiles.makeContext(
            configuration,
            certificateFile: options.certificateFile,
            privateKeyFile: options.privateKeyFile
        )
        return State(context: context, expirySeconds: expiry)
    }
}
