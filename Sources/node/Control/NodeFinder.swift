import Foundation
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Finds the node of this host that a command means.
struct NodeFinder {
    /// What `--node` names: a node's name, one of its addresses with or without a port, or the path of its socket. nil for
    /// the only one there is.
    let wanted: String?
    let environment: [String: String]
    let userID: UInt32

    init(wanted: String?) {
        self.wanted = wanted
        self.environment = ProcessInfo.processInfo.environment
        self.userID = geteuid()
    }

    private struct Found {
        let client: ControlClient
        let identity: IdentityQuestion.Answer
    }

    func find() throws(ControlFailure) -> ControlClient {
        if let wanted, wanted.contains("/") { return ControlClient(path: wanted) }
        let paths = self.sockets
        if self.wanted == nil, paths.count == 1 { return ControlClient(path: paths[0]) }
        var found: [Found] = []
        var failures: [String] = []
        for path in paths {
            let client = ControlClient(path: path)
            do throws(ControlFailure) {
                found.append(Found(client: client, identity: try client.ask(IdentityQuestion(), within: .seconds(3))))
            } catch {
                failures.append("\(error)")
            }
        }
        return try self.choose(found, failures)
    }

    private func choose(_ found: [Found], _ failures: [String]) throws(ControlFailure) -> ControlClient {
        let matches = self.wanted.map { wanted in found.filter { $0.identity.goes(by: wanted) } } ?? found
        if matches.count == 1 { return matches[0].client }
        let list = found.map { "  \($0.identity.line)\n" }.joined() + failures.map { "  \($0)\n" }.joined()
        if matches.count > 1 {
            let what = self.wanted.map { "go by '\($0)'" } ?? "run on this host"
            throw ControlFailure("several nodes \(what); choose one with --node NAME:\n\(list)")
        }
        if let wanted = self.wanted, !found.isEmpty || !failures.isEmpty {
            throw ControlFailure(
                "no node of this host goes by '\(wanted)'; only nodes of this host can be asked:\n\(list)"
            )
        }
        throw ControlFailure(
            """
            no node of this user runs on this host, or it has no control socket in \
            \(self.folders.map(\.path).joined(separator: " or ")); --node also takes the path of a socket
            \(list)
            """
        )
    }

    /// Where a node of this user, started under the same circumstances, has its socket.
    private var folders: [ControlDirectory] {
        switch self.environment[EnvironmentSettings.variable("control-socket")].flatMap(ControlSocket.init(argument:)) {
        case .folder(let path): [ControlDirectory(path: path)]
        case .path, .off, nil: ControlDirectory.standard(environment: self.environment, userID: self.userID)
        }
    }

    /// Those behind which somebody seems to be.
    private var sockets: [String] {
        let variable = self.environment[EnvironmentSettings.variable("control-socket")]
        if case .path(let path)? = variable.flatMap(ControlSocket.init(argument:)) { return [path] }
        return self.folders.filter { $0.isTrusted(by: self.userID) }.flatMap(\.sockets).filter { path in
            switch LocalSocket.tenant(of: path) {
            case .live, .unknown: true
            case .nobody, .dead: false
            }
        }
    }
}

extension IdentityQuestion.Answer {
    /// Whether that is this node's name or one of its addresses.
    func goes(by wanted: String) -> Bool {
        if wanted == self.name { return true }
        guard let address = HostPort(argument: wanted) else { return false }
        return self.addresses.values.contains { text in
            guard let own = HostPort(argument: text) else { return false }
            // Who listens on all addresses is told apart by the port alone.
            let isEverywhere = ["::", "0.0.0.0"].contains(own.host) && address.port != nil
            return (own.host == address.host || isEverywhere) && (address.port == nil || address.port == own.port)
        }
    }

    fileprivate var line: String {
        let addresses = self.addresses.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        return ([self.name] + addresses).joined(separator: " ").escaped
    }
}
