import Foundation
import Logging
import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A node's control socket. It has a thread of its own, so that a busy broker answers too, and nobody who asks holds up
/// anything else.
final class ControlServer: Sendable {
    /// Where the socket is to be.
    enum Place: Equatable {
        /// In the first of these folders that can be had.
        case folders([ControlDirectory])
        case folder(ControlDirectory)
        case path(String)
    }

    let path: String
    private let group: MultiThreadedEventLoopGroup
    private let channel: any Channel
    private let desk: ControlDesk

    private init(path: String, group: MultiThreadedEventLoopGroup, channel: any Channel, desk: ControlDesk) {
        self.path = path
        self.group = group
        self.channel = channel
        self.desk = desk
    }

    /// Opens the socket.
    ///
    /// - Parameter name: tells the nodes in one folder apart: an address that no other live node of this host has.
    static func start(at place: Place, name: String, answers: ControlAnswers) async throws -> ControlServer {
        let path = try Self.findPlace(place, name: name)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            let desk = ControlDesk(answers: answers, loop: group.next())
            let channel = try await Self.listen(at: path, group: group, desk: desk)
            return ControlServer(path: path, group: group, channel: channel, desk: desk)
        } catch {
            // It fails only if it has been shut down already.
            try? await group.shutdownGracefully()
            throw error as? ControlFailure ?? ControlFailure("\(path): \(Self.reason(error))")
        }
    }

    /// Ends it. Those who are being answered have a moment; others end with it.
    func stop() async {
        unlink(self.path)
        // They fail only if they are closed already, and the pauses only if the task is cancelled.
        try? await self.channel.close().get()
        for _ in 0..<50 where await !self.desk.isIdle { try? await Task.sleep(for: .milliseconds(10)) }
        try? await self.group.shutdownGracefully()
    }

    // MARK: The place

    private static func findPlace(_ place: Place, name: String) throws(ControlFailure) -> String {
        switch place {
        case .path(let path):
            switch LocalSocket.tenant(of: path) {
            case .nobody, .dead: return path
            case .live: throw ControlFailure("\(path): another process listens there")
            case .unknown(let reason): throw ControlFailure("\(path): \(reason); remove it, or name another path")
            }
        case .folder(let folder): return try Self.findPlace(folder, name)
        case .folders(let folders):
            var reasons: [String] = []
            for folder in folders {
                do throws(ControlFailure) {
                    return try Self.findPlace(folder, name)
                } catch {
                    reasons.append("\(error)")
                }
            }
            throw ControlFailure(reasons.joined(separator: "; "))
        }
    }

    private static func findPlace(_ folder: ControlDirectory, _ name: String) throws(ControlFailure) -> String {
        try folder.prepare(userID: geteuid())
        // What killed nodes have left behind, so that it does not pile up.
        for path in folder.sockets where LocalSocket.tenant(of: path) == .dead { unlink(path) }
        var path = folder.socket(name)
        switch LocalSocket.tenant(of: path) {
        case .nobody, .dead: break
        // In another network namespace somebody may well have the same address.
        case .live, .unknown: path = folder.socket("\(name)-\(getpid())")
        }
        guard path.utf8.count <= ControlDirectory.pathBytesMax else {
            throw ControlFailure("\(path) has more than \(ControlDirectory.pathBytesMax) bytes")
        }
        return path
    }

    /// The socket gets its name when it is listened to, and so nobody takes it for one left behind.
    private static func listen(
        at path: String,
        group: MultiThreadedEventLoopGroup,
        desk: ControlDesk
    ) async throws -> any Channel {
        let folder = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
        let temporary = "\(folder)/.\(getpid())"
        guard temporary.utf8.count <= ControlDirectory.pathBytesMax else {
            throw ControlFailure("\(path): the path of its folder is too long; name a shorter one")
        }
        unlink(temporary)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 16)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { desk.admit($0) }
            .bind(unixDomainSocketPath: temporary).get()
        do {
            // Beside this the asker's credentials are looked at, so that the moment before does not matter.
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: temporary)
            guard rename(temporary, path) == 0 else { throw SocketError.last }
        } catch {
            unlink(temporary)
            throw error
        }
        return channel
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as SocketError: "\(error)"
        default: ControlDirectory.reason(error)
        }
    }
}
