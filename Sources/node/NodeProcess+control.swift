import Cluster
import Gossip
import LocalBroker
import Logging

import class Foundation.ProcessInfo

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The control socket, and what is answered there.
extension NodeProcess {
    /// - Returns: nil where there is to be none, or where none of the usual places can be had: a broker without it serves
    ///   its clients all the same.
    func startControl(broker: Broker, cluster: ClusterService?, ring: GossipNode?) async throws -> ControlServer? {
        let place: ControlServer.Place
        switch self.options.control.controlSocket {
        case .off: return nil
        case .path(let path): place = .path(path)
        case .folder(let path): place = .folder(ControlDirectory(path: path))
        case nil:
            let environment = ProcessInfo.processInfo.environment
            place = .folders(ControlDirectory.standard(environment: environment, userID: geteuid()))
        }
        let addresses = self.allListeners(broker: broker, cluster: cluster, ring: ring).compactMap { listener in
            listener.address.map { (listener.name, $0) }
        }
        let identity = IdentityQuestion.Answer(
            name: self.name,
            release: BrokerVersion.current,
            addresses: Dictionary(addresses) { first, _ in first }
        )
        // Gossip's address is the only one on this host also where several nodes are bound to all addresses.
        let name = identity.addresses["gossip"] ?? addresses.first?.1 ?? "node-\(getpid())"
        do {
            let status = StatusDesk(
                identity: identity,
                bootEpoch: broker.identity.incarnation,
                broker: broker,
                cluster: cluster,
                ring: ring
            )
            let answers = self.answers(identity: identity, ring: ring, status: status)
            let server = try await ControlServer.start(at: place, name: name, answers: answers)
            self.logger.info("commands on this host ask this node at \(server.path)")
            return server
        } catch let failure as ControlFailure {
            guard self.options.control.controlSocket == nil else {
                throw NodeError.noControlSocket(reason: failure.description)
            }
            self.logger.warning(
                "commands like \"node members\" will not find this node: \(failure); --control-socket names another place"
            )
            return nil
        }
    }

    private func answers(
        identity: IdentityQuestion.Answer,
        ring: GossipNode?,
        status: StatusDesk
    ) -> ControlAnswers {
        var answers = ControlAnswers(release: identity.release)
        answers.add(IdentityQuestion.self) { _ in identity }
        answers.add(MembersQuestion.self) { _ in
            guard let ring else { throw Self.isAlone }
            let score = await ring.statistics().healthScore
            return MembersQuestion.Answer(node: identity.name, healthScore: score, members: await ring.members())
        }
        answers.add(StatusQuestion.self) { _ in try await status.answer() }
        answers.add(CheckQuestion.self) { _ in
            guard let ring else { throw Self.isAlone }
            guard let cluster = status.cluster else {
                throw ControlFailure("the node has no links: it runs with link-port off")
            }
            return CheckQuestion.Answer(node: identity.name, await cluster.check(), members: await ring.members())
        }
        let listeners = self.options.listenerSettings.map(\.name)
        answers.add(DrainQuestion.self) { _ in
            let servers = Self.servers(await ring?.members() ?? [], listeners: listeners)
            let clients = try await status.broker.status().clientsConnected
            // To the process, as from outside: `raise` would send it to this thread, where nobody waits for it.
            kill(getpid(), SIGTERM)
            let others = servers.values.map(\.count).max() ?? 0
            return DrainQuestion.Answer(node: identity.name, clients: clients, servers: others)
        }
        answers.add(KeyQuestion.self) { question in
            guard let ring else { throw Self.isAlone }
            return try await KeyDesk(node: identity.name, ring: ring).answer(question)
        }
        return answers
    }

    private static let isAlone = ControlFailure("the node is alone: it runs with gossip-port off")
}
