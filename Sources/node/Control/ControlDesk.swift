import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Takes in those who ask: only this user and root, and only so many at a time. Owned by the control socket's event loop.
final class ControlDesk: Sendable {
    static let askersMax = 16
    /// How long a question may take to come, and all of it until it is answered and the answer is read.
    static let questionTimeout = TimeAmount.seconds(5)
    static let timeout = TimeAmount.seconds(120)

    private let loop: any EventLoop
    private let answers: ControlAnswers
    private let askers: NIOLoopBoundBox<Int>
    private let userID = geteuid()

    init(answers: ControlAnswers, loop: any EventLoop) {
        self.loop = loop
        self.answers = answers
        self.askers = NIOLoopBoundBox.makeBoxSendingValue(0, eventLoop: loop)
    }

    /// Whether nobody asks. Also if the loop is gone.
    var isIdle: Bool {
        get async { (try? await self.loop.submit { self.askers.value == 0 }.get()) ?? true }
    }

    /// - Returns: a failure has the channel closed.
    func admit(_ channel: any Channel) -> EventLoopFuture<Void> {
        self.asker(channel).flatMapThrowing { asker in
            let isAllowed = asker.map { $0 == self.userID || $0 == 0 } ?? true
            guard isAllowed, self.askers.value < Self.askersMax else { throw ChannelError.ioOnClosedChannel }
            self.askers.value += 1
            try channel.pipeline.syncOperations.addHandler(
                ControlConnection { line in
                    await self.answers.answer(line)
                } onEnd: {
                    self.askers.value -= 1
                }
            )
        }
    }

    /// The user at the other end; nil where the system does not tell, and the modes of files alone keep others out.
    private func asker(_ channel: any Channel) -> EventLoopFuture<UInt32?> {
        #if os(Linux)
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
        }
        return provider.unsafeGetSocketOption(level: .socket, name: .init(rawValue: SO_PEERCRED))
            .map { (peer: PeerCredentials) in peer.userID }
        #else
        return channel.eventLoop.makeSucceededFuture(nil)
        #endif
    }
}

/// `struct ucred` of Linux, which not every C library declares without being asked to.
private struct PeerCredentials: Sendable {
    var processID: Int32 = 0
    var userID: UInt32 = 0
    var groupID: UInt32 = 0
}
